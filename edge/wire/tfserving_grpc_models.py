"""TensorFlow Serving's ModelService and GetModelMetadata: messages ↔ what the catalog says.

Source: TensorFlow Serving's `apis/get_model_status.proto`, `get_model_metadata.proto`, `model_management.proto`.
"""

from __future__ import annotations

from typing import Any

from edge.domain.errors import InvalidInput, UnknownLabel
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import ModelStatus
from edge.domain.requests import ModelInfo
from edge.domain.tensors import Signature, TensorSpec
from edge.wire.proto.messages import message, parse, to_bytes
from edge.wire.tensor_proto import NUMBERS
from edge.wire.tfserving_examples import method_name
from edge.wire.tfserving_grpc import PACKAGE, spec_of
from edge.wire.tfserving_status import STATES, found_versions

FIELD = "signature_def"
UNKNOWN = 2
"""The canonical number of UNKNOWN, which TensorFlow Serving gives where a load failed."""


def parse_status(body: bytes) -> ModelSpec:
    """Raises InvalidInput."""
    return spec_of(parse(f"{PACKAGE}.GetModelStatusRequest", body))


def encode_status(status: ModelStatus | None, spec: ModelSpec) -> bytes:
    """Every version, or the one that is asked for, by its label too. Raises NotFound, UnknownLabel."""
    if spec.label is not None:
        if status is None or spec.label not in status.labels:
            raise UnknownLabel(spec)
        spec = ModelSpec(spec.name, status.labels[spec.label])
    reply = message(f"{PACKAGE}.GetModelStatusResponse")()
    states = message(f"{PACKAGE}.ModelVersionStatus").State
    for version in found_versions(status, spec):
        row = reply.model_version_status.add(version=version.id.version, state=states.Value(STATES[version.state]))
        row.status.SetInParent()
        if version.state is State.FAILED:
            row.status.error_code, row.status.error_message = UNKNOWN, version.reason
    return to_bytes(reply)


def parse_metadata(body: bytes) -> ModelSpec:
    """Raises InvalidInput."""
    request = parse(f"{PACKAGE}.GetModelMetadataRequest", body)
    spec = spec_of(request)
    if not request.metadata_field:
        raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != FIELD:
            raise InvalidInput(f"Metadata field {field} is not supported")
    return spec


def encode_metadata(info: ModelInfo) -> bytes:
    """A ready version's signatures."""
    reply = message(f"{PACKAGE}.GetModelMetadataResponse")()
    reply.model_spec.name = info.id.name
    reply.model_spec.version.value = info.id.version
    signatures = message(f"{PACKAGE}.SignatureDefMap")()
    for name, signature in info.signatures.items():
        _signature(signatures.signature_def[name], signature)
    reply.metadata[FIELD].type_url = f"type.googleapis.com/{PACKAGE}.SignatureDefMap"
    reply.metadata[FIELD].value = to_bytes(signatures)
    return to_bytes(reply)


def parse_reload(body: bytes) -> bytes:
    """A serialized ModelServerConfig; `metric_names` are passed over. Raises InvalidInput."""
    config: bytes = parse(f"{PACKAGE}.ReloadConfigRequest", body).config
    return config


def read_config(data: bytes) -> dict[str, Any]:
    """A ModelServerConfig in the plain values that its text form becomes, too: what is there, by the names of fields.
    Raises InvalidInput."""
    return _plain(parse(f"{PACKAGE}.ModelServerConfig", data))


def _plain(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            found[field.name] = list(value) if field.is_repeated else value
        elif field.message_type.GetOptions().map_entry:
            found[field.name] = dict(value)
        else:
            found[field.name] = [_plain(each) for each in value] if field.is_repeated else _plain(value)
    return found


def encode_reloaded() -> bytes:
    reply = message(f"{PACKAGE}.ReloadConfigResponse")()
    reply.status.SetInParent()
    return to_bytes(reply)


def _signature(made: Any, signature: Signature) -> None:
    for name, spec in signature.inputs.items():
        _tensor(made.inputs[name], spec)
    for name, spec in signature.outputs.items():
        _tensor(made.outputs[name], spec)
    made.method_name = method_name(signature)


def _tensor(made: Any, spec: TensorSpec) -> None:
    made.name, made.dtype = spec.name, NUMBERS[spec.dtype]
    made.tensor_shape.unknown_rank = spec.shape is None
    for size in spec.shape or ():
        made.tensor_shape.dim.add().size = size
