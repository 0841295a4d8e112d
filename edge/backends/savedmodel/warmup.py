"""Warmup requests, as TensorFlow Serving keeps them in a SavedModel: played before the version serves.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLog. Rule 1: in a worker only; TensorFlow reads the
records and checks their sums (masked CRC-32C), the messages are read by descriptors of our own. Rule 2: a record that cannot
be read, or whose request fails, fails the load: what was recorded as good must be answered.

Source: TensorFlow Serving's `servables/tensorflow/saved_model_warmup.cc` and its `apis/*.proto`, for the field numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from edge.backends.worker.program import Computing
from edge.domain.errors import EdgeError, LoadError
from edge.domain.tensors import Array, DType, Signature

WARMUP = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1_000
MAX_BYTES = 1 << 30
_PACKAGE = "edge.warmup"


def replay(path: str, model: Computing) -> None:
    """Raises LoadError naming the record."""
    for number, record in enumerate(_records(path)):
        where = f"{WARMUP}: record {number}"
        if number >= MAX_RECORDS:
            raise LoadError(f"{where}: want at most {MAX_RECORDS} records")
        try:
            for name, inputs in _requests(record, model):
                _run(model, name, inputs)
        except (ValueError, EdgeError) as error:
            raise LoadError(f"{where}: {error}") from None


def _run(model: Computing, name: str, inputs: dict[str, Array]) -> None:
    """Raises ValueError, EdgeError."""
    signature = _signature(model, name)
    if inputs.keys() != signature.inputs.keys():
        raise ValueError(f"want tensors {', '.join(signature.inputs)}, got {', '.join(sorted(inputs))}")
    for key, spec in signature.inputs.items():
        array = inputs[key]
        if array.dtype != spec.dtype.numpy or not spec.admits(array.shape):
            raise ValueError(f"{key}: want {spec}, got {array.dtype} {list(array.shape)}")
    model.run(signature.name, inputs)


def _signature(model: Computing, name: str) -> Signature:
    """Raises ValueError."""
    found = model.signatures.get(name or "serving_default")
    if found is None:
        raise ValueError(f"signature {name!r}: no such signature; the model has {', '.join(model.signatures)}")
    return found


def _records(path: str) -> Iterator[bytes]:
    """Raises LoadError."""
    import os

    import tensorflow as tf

    if (size := os.path.getsize(path)) > MAX_BYTES:
        raise LoadError(f"{WARMUP}: want at most {MAX_BYTES} bytes, got {size}")
    try:
        yield from tf.compat.v1.io.tf_record_iterator(path)
    except (tf.errors.OpError, OSError) as error:
        raise LoadError(f"{WARMUP}: not a TFRecord that is whole: {error}") from None


def _requests(record: bytes, model: Computing) -> Iterator[tuple[str, dict[str, Array]]]:
    """Signature and inputs of what a record asks. Raises ValueError."""
    from google.protobuf.message import DecodeError

    log = _messages()["PredictionLog"]()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"no PredictionLog: {error}") from None
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        yield request.model_spec.signature_name, {name: _tensor(name, each) for name, each in request.inputs.items()}
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        yield _examples(model, request.model_spec.signature_name, request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            yield _examples(model, task.model_spec.signature_name, request.input)
    else:
        raise ValueError(f"want a predict, classify, regress or multi-inference log, got {kind or 'none'}")


def _examples(model: Computing, name: str, given: Any) -> tuple[str, dict[str, Array]]:
    """A request of examples, as the one input of strings that such a signature has. Raises ValueError."""
    signature = _signature(model, name)
    specs = list(signature.inputs.values())
    if len(specs) != 1 or specs[0].dtype is not DType.STRING:
        raise ValueError(f"signature {signature.name} takes no examples")
    context = given.example_list_with_context.context
    listed = given.example_list_with_context.examples or given.example_list.examples
    # Serialized messages that follow one another are merged: that is how a context is added.
    texts = [context + each for each in listed]
    array = np.empty(len(texts), object)
    array[:] = texts
    return signature.name, {specs[0].name: array}


def _tensor(name: str, content: bytes) -> Array:
    """Raises ValueError."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    try:
        array: Array = np.asarray(tf.make_ndarray(TensorProto.FromString(content)))
    except (DecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: no tensor: {error}") from None
    return array


@cache
def _messages() -> dict[str, Any]:
    """Message classes by name: those fields that are looked at, and no others. A tensor and an example stay bytes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="edge/warmup.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _FIELDS.items():
        made = file.message_type.add(name=message)
        oneofs = sorted({oneof for *_, oneof in fields if oneof})
        for oneof in oneofs:
            made.oneof_decl.add(name=oneof)
        for number, field, kind, oneof in fields:
            added = made.field.add(name=field, number=number)
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            if kind in ("string", "bytes"):
                added.type = added.TYPE_STRING if kind == "string" else added.TYPE_BYTES
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            if oneof:
                added.oneof_index = oneofs.index(oneof)
    entry = next(each for each in file.message_type if each.name == "PredictRequest").nested_type.add(
        name="InputsEntry"
    )
    entry.options.map_entry = True
    kinds = descriptor_pb2.FieldDescriptorProto
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


_FIELDS: dict[str, list[tuple[int, str, str, str]]] = {
    "ModelSpec": [(3, "signature_name", "string", "")],
    "PredictRequest": [(1, "model_spec", "ModelSpec", ""), (2, "inputs", "PredictRequest.InputsEntry*", "")],
    "PredictLog": [(1, "request", "PredictRequest", "")],
    "ExampleList": [(1, "examples", "bytes*", "")],
    "ExampleListWithContext": [(1, "examples", "bytes*", ""), (2, "context", "bytes", "")],
    "Input": [
        (1, "example_list", "ExampleList", "kind"),
        (2, "example_list_with_context", "ExampleListWithContext", "kind"),
    ],
    "ExamplesRequest": [(1, "model_spec", "ModelSpec", ""), (2, "input", "Input", "")],
    "ExamplesLog": [(1, "request", "ExamplesRequest", "")],
    "InferenceTask": [(1, "model_spec", "ModelSpec", "")],
    "MultiInferenceRequest": [(1, "tasks", "InferenceTask*", ""), (2, "input", "Input", "")],
    "MultiInferenceLog": [(1, "request", "MultiInferenceRequest", "")],
    "PredictionLog": [
        (2, "classify_log", "ExamplesLog", "log_type"),
        (3, "regress_log", "ExamplesLog", "log_type"),
        (6, "predict_log", "PredictLog", "log_type"),
        (4, "multi_inference_log", "MultiInferenceLog", "log_type"),
        (5, "session_run_log", "bytes", "log_type"),
    ],
}
