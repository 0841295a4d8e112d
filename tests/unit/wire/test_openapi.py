from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from edge.domain.errors import Code
from edge.domain.models import ModelId
from edge.domain.requests import ModelInfo
from edge.domain.tensors import DType, Quantization, Shape, Signature, TensorSpec
from edge.wire.openapi import ROUTES, openapi
from edge.wire.status import HTTP_STATUS

# The keywords of JSON Schema 2020-12 that the document uses: a misspelt one would silently mean nothing.
KEYWORDS = {
    "$ref", "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "enum",
    "const", "anyOf", "allOf", "additionalProperties", "contentEncoding", "description", "title",
}  # fmt: skip


def tensor(name: str, dtype: DType, shape: Shape | None, quantization: Quantization | None = None) -> TensorSpec:
    return TensorSpec(name, dtype, shape, quantization)


def signature(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Signature:
    return Signature(name, {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs})


def model(name: str, *signatures: Signature, version: int = 1) -> ModelInfo:
    by_name = {each.name: each for each in signatures}
    return ModelInfo(ModelId(name, version), "tflite", "cpu", by_name, (version,), 1)


DETECTOR = model(
    "cat/dog {é}",
    signature(
        "serving_default",
        [tensor("x", DType.UINT8, (1, 2, -1, 3), Quantization(1 / 128, 128))],
        [tensor("boxes", DType.FLOAT32, (1, 10, 4)), tensor("count", DType.FLOAT32, ())],
    ),
    signature("words", [tensor("text", DType.STRING, (-1,)), tensor("on", DType.BOOL, None)], []),
)
SUM = signature("sum", [tensor("a", DType.INT64, ())], [tensor("b", DType.FLOAT16, (2,))])
MODELS = [DETECTOR, model("sum", SUM, version=2), model("sum", SUM, version=1)]


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(openapi(MODELS, "1.2.3"))


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def schemas(document: Any) -> Iterator[Any]:
    yield from document["components"]["schemas"].values()
    for node in walk([document["paths"], document["components"]["parameters"], document["components"]["responses"]]):
        if isinstance(node.get("schema"), dict):
            yield node["schema"]


def check_schema(schema: Any) -> None:
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "required" in schema:
        assert set(schema["required"]) <= set(schema["properties"])
    for group in ("anyOf", "allOf", "prefixItems"):
        assert schema.get(group) != [], f"{group} may not be empty"
    children = [*schema.get("properties", {}).values()]
    for group in ("anyOf", "allOf", "prefixItems"):
        children += schema.get(group, [])
    children += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for child in children:
        check_schema(child)


def test_every_schema_is_made_of_known_keywords(document: Any) -> None:
    found = list(schemas(document))
    assert len(found) > 50
    for schema in found:
        check_schema(schema)


def test_every_reference_resolves(document: Any) -> None:
    references = {node["$ref"] for node in walk(document) if "$ref" in node}
    assert references
    for reference in references:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert isinstance(place, dict)


def test_no_component_is_left_unused(document: Any) -> None:
    text = json.dumps(document)
    for kind in ("schemas", "parameters", "responses"):
        assert all(f"#/components/{kind}/{name}" in text for name in document["components"][kind])


def test_every_operation_has_a_unique_id_and_a_good_and_a_bad_response(document: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 30
    for _, method, operation in operations(document):
        assert "200" in operation["responses"]
        assert "400" in operation["responses"]
        assert all(response.get("description") or "$ref" in response for response in operation["responses"].values())
        assert method == "post" or "requestBody" not in operation


def test_the_parameters_of_a_path_are_those_in_its_braces(document: Any) -> None:
    for path, _, operation in operations(document):
        parameters = [
            document["components"]["parameters"][each["$ref"].rpartition("/")[2]]
            for each in operation.get("parameters", [])
        ]
        in_path = {each["name"] for each in parameters if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(each["required"] for each in parameters if each["in"] == "path")


def test_every_status_of_an_error_is_described_in_the_words_of_its_codes(document: Any) -> None:
    responses = document["components"]["responses"]
    assert set(responses) == {str(status) for status in HTTP_STATUS.values()}
    assert responses["503"]["description"] == "not ready, or overloaded"
    assert len(HTTP_STATUS) == len(Code)


def test_versions_and_labels_can_be_pinned(document: Any) -> None:
    assert "/v1/models/{model}/versions/{version}:predict" in document["paths"]
    assert "/v1/models/{model}/labels/{label}/metadata" in document["paths"]
    assert "/v2/models/{model}/versions/{version}/infer" in document["paths"]
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_a_loaded_model_has_paths_of_its_own_with_its_shapes_and_types(document: Any) -> None:
    predict = document["paths"]["/v1/models/cat%2Fdog%20%7B%C3%A9%7D:predict"]["post"]
    content = predict["requestBody"]["content"]
    assert set(content) == {"application/json", "image/jpeg", "image/png", "image/bmp"}
    rows, columns, words, _ = content["application/json"]["schema"]["anyOf"]
    row = rows["properties"]["instances"]["items"]
    assert row["title"] == "x: uint8 [1,2,?,3]"
    assert (row["minItems"], row["maxItems"]) == (2, 2)
    assert "minItems" not in row["items"]
    assert row["items"]["items"]["items"] == {"type": "integer", "minimum": 0, "maximum": 255}
    assert columns["properties"]["inputs"]["maxItems"] == 1
    assert "signature_name" not in rows["required"]
    assert "signature_name" in words["required"]


def test_a_models_tensors_are_named_in_the_open_inference_protocol(document: Any) -> None:
    infer = document["paths"]["/v2/models/sum/infer"]["post"]
    schema = infer["requestBody"]["content"]["application/json"]["schema"]
    (tensor_schema,) = schema["properties"]["inputs"]["items"]["anyOf"]
    assert tensor_schema["properties"]["name"] == {"const": "a"}
    assert tensor_schema["properties"]["datatype"] == {"const": "INT64"}
    reply = infer["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["outputs"]
    assert reply["items"]["anyOf"][0]["properties"]["shape"]["prefixItems"] == [{"const": 2}]
    assert reply["items"]["anyOf"][0]["properties"]["datatype"] == {"const": "FP16"}


def test_a_model_that_takes_no_picture_does_not_offer_it_and_a_scalar_has_no_rows(document: Any) -> None:
    content = document["paths"]["/v1/models/sum:predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json"}
    (columns,) = content["application/json"]["schema"]["anyOf"]
    assert "inputs" in columns["properties"]


def test_a_second_version_of_a_model_is_under_its_number(document: Any) -> None:
    assert "/v1/models/sum/versions/1:predict" in document["paths"]
    assert document["paths"]["/v1/models/sum:predict"]["post"]["operationId"] == "predict sum@2"


def test_a_server_without_models_has_a_document_too() -> None:
    document = json.loads(openapi([], "0"))
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "0"
    assert not [path for path in document["paths"] if path.startswith("/v1/models/sum")]
