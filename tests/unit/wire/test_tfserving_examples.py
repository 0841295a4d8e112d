import pytest

from edge.domain.errors import InvalidInput
from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import Target
from edge.domain.tensors import DType
from edge.wire.tfserving_examples import Method, method_name, parse_examples
from tests.unit.wire.targets import signature

S, F = DType.STRING, DType.FLOAT32
CLASSIFY = signature({"inputs": S}, {"classes": S, "scores": F}, (-1,))
REGRESS = signature({"inputs": S}, {"outputs": F}, (-1,))
PREDICT = signature({"x": F}, {"y": F}, (-1,))


def bind(body: bytes, method: Method = "classify") -> list[bytes]:
    to = Target(ModelId("m", 1), CLASSIFY if method == "classify" else REGRESS, ImageOptions())
    tensors = parse_examples(body, method).payload.bind(to)
    assert list(tensors) == ["inputs"]
    assert tensors["inputs"].dtype == object
    return list(tensors["inputs"])


def example(*entries: bytes) -> bytes:
    """Each entry is a key and a Feature, already with their tags."""
    return field(1, b"".join(field(1, entry) for entry in entries))


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def entry(name: bytes, feature: bytes) -> bytes:
    return field(1, name) + field(2, feature)


@pytest.mark.parametrize(
    ("value", "feature"),
    [
        (b"1", field(3, field(1, b"\x01"))),
        (b"[1, 300, -1]", field(3, field(1, b"\x01\xac\x02" + b"\xff" * 9 + b"\x01"))),
        (b"true", field(3, field(1, b"\x01"))),
        (b"[false, 2]", field(3, field(1, b"\x00\x02"))),
        (b"1.5", field(2, field(1, b"\x00\x00\xc0\x3f"))),
        (b"[1.0, 1e300]", field(2, field(1, b"\x00\x00\x80\x3f\x00\x00\x80\x7f"))),
        (b'"a"', field(1, field(1, b"a"))),
        (b'["a", {"b64": "/w=="}]', field(1, field(1, b"a") + field(1, b"\xff"))),
        (b"[]", b""),
    ],
)
def test_a_feature_is_of_the_kind_of_its_elements(value: bytes, feature: bytes) -> None:
    assert bind(b'{"examples": [{"f": ' + value + b"}]}") == [example(entry(b"f", feature))]


def test_the_context_is_in_every_example_and_an_example_overrides_it() -> None:
    body = b'{"context": {"c": 1, "d": 2}, "examples": [{"f": 3}, {"c": 4}]}'
    one, two, three, four = (field(3, field(1, bytes([number]))) for number in (1, 2, 3, 4))
    assert bind(body) == [
        example(entry(b"c", one), entry(b"d", two), entry(b"f", three)),
        example(entry(b"c", four), entry(b"d", two)),
    ]


def test_a_regression_takes_the_same_examples() -> None:
    assert bind(b'{"examples": [{}, {}]}', "regress") == [field(1, b""), field(1, b"")]
    assert parse_examples(b'{"signature_name": "s", "examples": [{}]}', "regress").signature_name == "s"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        (b'{"examples": 1}', "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array"),
        (b'{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        (b'{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        (b'{"examples": [{}], "context": []}', "Example must be JSON object but got JSON Array"),
        (b'{"examples": [{"f": null}]}', "Feature: f has element with unexpected JSON type: Null"),
        (b'{"examples": [{"f": [[1]]}]}', "Feature: f has element with unexpected JSON type: Array"),
        (b'{"examples": [{"f": [1, "a"]}]}', "Unexpected element type in feature: f expecting type: int64"),
        (b'{"examples": [{"f": [1.5, 1]}]}', "Unexpected element type in feature: f expecting type: float"),
        (b'{"examples": [{"f": ["a", true]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        (b'{"examples": [{"f": 9223372036854775808}]}', "Feature: f has uint64_t element. Only int64_t is supported."),
        (b'{"examples": [{"f": {"b64": 1}}]}', 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
        (b'{"signature_name": 1, "examples": [{}]}', 'JSON Value: {\n    "signature_name": 1,\n    "examples": [{}]\n} '
         "not formatted correctly. 'signature_name' key must be a string value."),
    ],
)  # fmt: skip
def test_examples_are_judged_before_the_model_is_known(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_examples(body, "classify")
    assert caught.value.message == message


def test_a_signature_of_another_method_is_refused() -> None:
    payload = parse_examples(b'{"examples": [{}]}', "classify").payload
    for other, name in ((REGRESS, "regress"), (PREDICT, "predict")):
        with pytest.raises(InvalidInput) as caught:
            payload.bind(Target(ModelId("m", 1), other, ImageOptions()))
        assert caught.value.message == (
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            f"Was: tensorflow/serving/{name}"
        )
    with pytest.raises(
        InvalidInput, match="Expected regression signature method_name to be tensorflow/serving/regress"
    ):
        parse_examples(b'{"examples": [{}]}', "regress").payload.bind(Target(ModelId("m", 1), CLASSIFY, ImageOptions()))


def test_the_method_follows_from_the_signatures_shape() -> None:
    assert (
        method_name(CLASSIFY) == method_name(signature({"i": S}, {"scores": F}, (-1,))) == "tensorflow/serving/classify"
    )
    assert method_name(REGRESS) == "tensorflow/serving/regress"
    for other in (
        PREDICT,
        signature({"i": S}, {}, (-1,)),
        signature({"i": S}, {"scores": F, "z": F}, (-1,)),
        signature({"i": S}, {"scores": F}, None),
        signature({"i": S}, {"scores": F}, (-1, 1)),
        signature({"i": S}, {"outputs": S}, (-1,)),
        signature({"i": S, "j": S}, {"scores": F}, (-1,)),
    ):
        assert method_name(other) == "tensorflow/serving/predict"
