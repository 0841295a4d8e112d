"""Status and metadata of models, byte for byte as protobuf's JSON printer lays them out.

Rule: every field of the messages is there, defaults included, and none that they lack: clients parse these with
protobuf's parser, which refuses what it does not know. Quantization parameters are in the v2 protocol's metadata.

Source: TensorFlow Serving's `apis/get_model_status.proto`, `apis/get_model_metadata.proto`, `model_servers/http_rest_api_util.cc`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge.domain.errors import NotFound
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import ModelStatus, VersionStatus
from edge.domain.requests import ModelInfo
from edge.domain.tensors import DType, Signature, TensorSpec
from edge.wire.tfserving_examples import method_name

STATES = {
    State.NEW: "START",
    State.LOADING: "LOADING",
    State.TESTING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "END",
    State.FAILED: "END",
}
_DTYPES = {dtype: f"DT_{dtype.value.upper()}" for dtype in DType} | {
    DType.FLOAT16: "DT_HALF",
    DType.FLOAT32: "DT_FLOAT",
    DType.FLOAT64: "DT_DOUBLE",
}


def encode_status(status: ModelStatus | None, spec: ModelSpec) -> bytes:
    """Every version, or the one that `spec` names, newest first; a label is ignored. Raises NotFound."""
    return _print({"model_version_status": [_version(version) for version in found_versions(status, spec)]})


def found_versions(status: ModelStatus | None, spec: ModelSpec) -> list[VersionStatus]:
    """Those that the spec asks for, newest first. Raises NotFound."""
    versions = [] if status is None else status.versions
    found = [version for version in versions if spec.version in (None, version.id.version)]
    if not found:
        raise NotFound(ModelSpec(spec.name, spec.version), model_known=status is not None)
    found.sort(key=lambda version: version.id.version, reverse=True)
    return found


def encode_metadata(info: ModelInfo) -> bytes:
    """A ready version's signatures."""
    spec = {"name": info.id.name, "signature_name": "", "version": str(info.id.version)}
    signatures = {"signature_def": {name: _signature(signature) for name, signature in info.signatures.items()}}
    return b'{\n"model_spec":%b,\n"metadata": {"signature_def": %b}\n}\n' % (_print(spec), _print(signatures))


def _print(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message, indent=1, ensure_ascii=False)
    # protobuf escapes these two against embedding in HTML.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    return (text + "\n").encode("utf-8", "replace")


def _version(version: VersionStatus) -> dict[str, Any]:
    failed = version.state is State.FAILED
    return {
        "version": str(version.id.version),
        "state": STATES[version.state],
        "status": {
            "error_code": "UNKNOWN" if failed else "OK",
            "error_message": version.reason if failed else "",
        },
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor(spec) for name, spec in signature.inputs.items()},
        "outputs": {name: _tensor(spec) for name, spec in signature.outputs.items()},
        "method_name": method_name(signature),
        "defaults": {},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape or ()]
    return {
        "dtype": _DTYPES[spec.dtype],
        "tensor_shape": {"dim": dims, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
