"""JSON Schemas of what goes over HTTP: those that hold for every model, and those of one model's tensors.

Source: JSON Schema 2020-12, the dialect of OpenAPI 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.domain.tensors import DType, Signature, TensorSpec
from edge.wire.classes import MAX_TOP
from edge.wire.v2_datatypes import NAMES

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
STRINGS: Schema = {"type": "array", "items": STRING}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def struct(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def list_of(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


_V2_DATATYPE: Schema = {"type": "string", "enum": list(NAMES.values())}
_V2_SHAPE = list_of(WHOLE)
_V2_SPEC = struct({"name": STRING, "datatype": _V2_DATATYPE, "shape": _V2_SHAPE}, parameters={"type": "object"})
_EXAMPLES = struct({"examples": list_of({"type": "object"})}, signature_name=STRING, context={"type": "object"})
_CHOICE = struct({"label": STRING, "index": WHOLE, "score": {"type": ["number", "null"]}}, quantized=WHOLE)
_STATS_VERSION = struct(
    {"version": STRING, "state": STRING},
    reason=STRING,
    device=STRING,
    notice=STRING,
    requests=WHOLE,
    failures=WHOLE,
    queue=WHOLE,
)
_STATS_MODEL = struct(
    {"name": STRING, "versions": list_of(_STATS_VERSION)},
    labels={"type": "object", "additionalProperties": WHOLE},
    problem=STRING,
    rate={**NUMBER, "description": "requests per second"},
    p50_ms=NUMBER,
    p99_ms=NUMBER,
)
_STATS_SERVER = struct({"version": STRING, "boot_id": STRING, "ready": {"type": "boolean"}}, started=NUMBER)

COMMON: dict[str, Schema] = {
    "Error": struct({"error": STRING}),
    "PredictRequest": {
        "anyOf": [
            struct({"instances": list_of({}, description="one element for each example")}, signature_name=STRING),
            struct({"inputs": {"description": "whole tensors, by name when there are several"}}, signature_name=STRING),
        ]
    },
    "PredictReply": {
        "anyOf": [struct({"predictions": list_of({})}), struct({"outputs": {}}), ref("TopReply")],
    },
    "TopReply": struct({"predictions": list_of(list_of(_CHOICE, maxItems=MAX_TOP))}),
    "ExamplesRequest": _EXAMPLES,
    "ClassifyReply": struct({"results": list_of(list_of({"type": "array", "prefixItems": [STRING, NUMBER]}))}),
    "RegressReply": struct({"results": list_of(NUMBER)}),
    "ModelStatus": struct(
        {
            "model_version_status": list_of(
                struct(
                    {
                        "version": STRING,
                        "state": {"enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                        "status": struct({"error_code": STRING, "error_message": STRING}),
                    }
                )
            )
        }
    ),
    "Metadata": struct({"model_spec": {"type": "object"}, "metadata": {"type": "object"}}),
    "V2Server": struct({"name": STRING, "version": STRING, "extensions": STRINGS}),
    "V2Model": struct(
        {"name": STRING, "platform": STRING, "inputs": list_of(_V2_SPEC), "outputs": list_of(_V2_SPEC)},
        versions=STRINGS,
    ),
    "V2Request": struct(
        {"inputs": list_of({"allOf": [_V2_SPEC], "properties": {"data": {"type": "array"}}})},
        id=STRING,
        parameters={"type": "object"},
        outputs=list_of(struct({"name": STRING}, parameters={"type": "object"})),
    ),
    "V2Reply": struct(
        {"model_name": STRING, "outputs": list_of({"allOf": [_V2_SPEC], "properties": {"data": {"type": "array"}}})},
        model_version=STRING,
        id=STRING,
        parameters={"type": "object"},
    ),
    "V2Statistics": struct({"model_stats": list_of(struct({"name": STRING, "version": STRING}))}),
    "V2Index": list_of(struct({"name": STRING}, version=STRING, state=STRING, reason=STRING)),
    "Stats": struct({"server": _STATS_SERVER, "models": list_of(_STATS_MODEL)}),
}


def element(dtype: DType) -> Schema:
    """One number, truth value or string of a tensor, in JSON."""
    if dtype is DType.STRING:
        return {"anyOf": [STRING, struct({"b64": {**STRING, "contentEncoding": "base64"}})]}
    if dtype is DType.BOOL:
        return {"type": "boolean"}
    if not dtype.is_integer:
        return NUMBER
    limits = np.iinfo(dtype.numpy)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def nested(dtype: DType, shape: Sequence[int] | None) -> Schema:
    """A tensor as lists in lists; anything where its rank is unknown."""
    if shape is None:
        return {}
    schema = element(dtype)
    for size in reversed(shape):
        schema = list_of(schema) if size < 0 else list_of(schema, minItems=size, maxItems=size)
    return schema


def predict_requests(signature: Signature, *, named: bool) -> list[Schema]:
    """The row and the columnar body of one signature; `named` where it must be asked for by name."""
    extra = {"signature_name": {"const": signature.name}}
    bodies: list[dict[str, Schema]] = [{"inputs": _together(signature.inputs, 0)}]
    if _has_rows(signature.inputs):
        bodies.insert(0, {"instances": list_of(_together(signature.inputs, 1))})
    return [struct({**body, **extra}) if named else struct(body, **extra) for body in bodies]


def predict_replies(signature: Signature) -> list[Schema]:
    """The answers to the row and to the columnar body."""
    replies = [struct({"outputs": _together(signature.outputs, 0)})]
    if _has_rows(signature.inputs) and _has_rows(signature.outputs):
        replies.insert(0, struct({"predictions": list_of(_together(signature.outputs, 1))}))
    return replies


def v2_tensors(specs: Mapping[str, TensorSpec]) -> Schema:
    """The `inputs` or `outputs` of the Open Inference Protocol for these tensors."""
    each = [_v2_tensor(name, spec) for name, spec in specs.items()]
    return list_of({"anyOf": each} if each else {}, maxItems=len(each))


def _v2_tensor(name: str, spec: TensorSpec) -> Schema:
    shape: Schema = _V2_SHAPE
    if spec.shape is not None:
        sizes: list[Schema] = [
            {"type": "integer", "minimum": 0} if size < 0 else {"const": size} for size in spec.shape
        ]
        shape = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
        if sizes:
            shape["prefixItems"] = sizes
    data = {"anyOf": [list_of(element(spec.dtype), description="flat"), nested(spec.dtype, spec.shape)]}
    required = {"name": {"const": name}, "datatype": {"const": NAMES[spec.dtype]}, "shape": shape}
    return {**struct(required, data=data, parameters={"type": "object"}), "title": f"{name}: {spec}"}


def _together(specs: Mapping[str, TensorSpec], skip: int) -> Schema:
    """One tensor bare, several by name; `skip` leading axes are left to the list around it."""
    each = {
        name: {**nested(spec.dtype, None if spec.shape is None else spec.shape[skip:]), "title": f"{name}: {spec}"}
        for name, spec in specs.items()
    }
    return next(iter(each.values())) if len(each) == 1 else struct(each)


def _has_rows(specs: Mapping[str, TensorSpec]) -> bool:
    return all(spec.shape is None or len(spec.shape) > 0 for spec in specs.values())
