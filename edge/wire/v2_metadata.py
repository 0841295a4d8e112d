"""What the server and its models say of themselves: metadata, configuration, statistics, readiness.

Rule 1: shapes carry -1 for what is not known; a tensor of any rank is shown as `[-1]`, the nearest that there is.
Rule 2: what the protocol has no member for (quantization, further signatures) goes under `parameters`.
Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/tree/main/docs/protocol (model configuration, statistics)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edge.domain.errors import NotFound
from edge.domain.layout import MODEL_FILES
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.ports import ModelStatus, VersionStatus
from edge.domain.requests import ModelInfo
from edge.domain.tensors import DType, Signature, TensorSpec
from edge.wire.reply import TEXT, Reply, json_reply
from edge.wire.v2_datatypes import NAMES
from edge.wire.v2_errors import error_body

if TYPE_CHECKING:
    from edge.domain.routing import RoutingStatus, SideStatus

EXTENSIONS = ("classification", "model_configuration", "binary_tensor_data", "parameters", "statistics")
CONTROL_EXTENSION = "model_repository"
_FILES = {platform.value: name for name, platform in MODEL_FILES.items()}


def health(ok: bool) -> Reply:
    """The reply to `live` and `ready`: 200 or 400, without a body."""
    return Reply(200 if ok else 400, {"Content-Type": TEXT}, b"")


def model_ready(ok: bool) -> Reply:
    """The reply to a model's `ready`: an unknown model is one that is not ready."""
    if ok:
        return health(True)
    return Reply(400, {"Content-Type": TEXT}, error_body("Model version not ready"))


def server_metadata(name: str, version: str, *, control: bool) -> Reply:
    """`control`: whether models may be loaded and unloaded over HTTP."""
    extensions = (*EXTENSIONS, CONTROL_EXTENSION) if control else EXTENSIONS
    return json_reply({"name": name, "version": version, "extensions": extensions})


def model_names(models: Sequence[ModelStatus]) -> Reply:
    """`{"models":["a","b"]}`: all that are known, ready or not, as KServe lists them."""
    return json_reply({"models": [model.name for model in models]})


def model_metadata(info: ModelInfo) -> Reply:
    """The default signature's tensors; the others under `parameters.signatures`, to be asked for by `signature_name`."""
    default = info.default_signature
    reply: dict[str, Any] = {
        "name": info.id.name,
        "versions": [str(version) for version in sorted(info.ready_versions)],
        "platform": info.platform,
        **_tensors_of(default),
    }
    others = {name: _tensors_of(signature) for name, signature in info.signatures.items() if signature is not default}
    parameters: dict[str, Any] = {"signatures": others} if others else {}
    if info.routing is not None:
        parameters["routing"] = _routing(info.routing)
    if parameters:
        reply["parameters"] = parameters
    return json_reply(reply)


def _routing(routing: RoutingStatus) -> dict[str, Any]:
    """Where requests go that name no version. A side whose version is not ready gets none."""
    shadow = routing.shadow
    return {
        "weights": {side.name: {"weight": side.weight, **_target(side)} for side in routing.sides},
        "sticky_header": routing.sticky_header,
        **({} if shadow is None else {"shadow": {"name": shadow.name, "share": shadow.weight, **_target(shadow)}}),
    }


def _target(side: SideStatus) -> dict[str, Any]:
    return {"version": "" if side.version is None else str(side.version), "ready": side.ready}


def _tensors_of(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": [_tensor(name, spec) for name, spec in signature.inputs.items()],
        "outputs": [_tensor(name, spec) for name, spec in signature.outputs.items()],
    }


def _tensor(name: str, spec: TensorSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "datatype": NAMES[spec.dtype], "shape": _shape(spec)}
    if spec.quantization is not None:
        scale, zero_point = spec.quantization.scale, spec.quantization.zero_point
        shown["parameters"] = {"quantization": {"scale": scale, "zero_point": zero_point}}
    return shown


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return (-1,) if spec.shape is None else spec.shape


def model_config(info: ModelInfo) -> Reply:
    """Triton's ModelConfig. Where the model batches, `dims` leave out the first size of each tensor."""
    signature = info.default_signature
    batches = signature.batches
    skip = 1 if batches else 0
    return json_reply(
        {
            "name": info.id.name,
            "platform": "",
            "backend": info.platform,
            "runtime": "",
            "version_policy": {"specific": {"versions": sorted(info.ready_versions)}},
            "max_batch_size": info.max_batch if batches else 0,
            "input": [_config_input(name, spec, skip) for name, spec in signature.inputs.items()],
            "output": [_config_output(name, spec, skip, info) for name, spec in signature.outputs.items()],
            "batch_input": [],
            "batch_output": [],
            "optimization": {
                "priority": "PRIORITY_DEFAULT",
                "input_pinned_memory": {"enable": False},
                "output_pinned_memory": {"enable": False},
                "gather_kernel_buffer_threshold": 0,
                "eager_batching": False,
            },
            "instance_group": [_instance_group(info)],
            "default_model_filename": _FILES.get(info.platform, ""),
            "cc_model_filenames": {},
            "metric_tags": {},
            "parameters": {"device": {"string_value": info.device}},
            "model_warmup": [],
        }
    )


def _config_input(name: str, spec: TensorSpec, skip: int) -> dict[str, Any]:
    return {
        "name": name,
        "data_type": _config_type(spec),
        "format": "FORMAT_NONE",
        "dims": _shape(spec)[skip:],
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }


def _config_output(name: str, spec: TensorSpec, skip: int, info: ModelInfo) -> dict[str, Any]:
    labelled = info.class_names and spec.shape and spec.shape[-1] == len(info.class_names)
    return {
        "name": name,
        "data_type": _config_type(spec),
        "dims": _shape(spec)[skip:],
        "label_filename": "labels.txt" if labelled else "",
        "is_shape_tensor": False,
        "is_non_linear_format_io": False,
    }


def _config_type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.dtype is DType.STRING else "TYPE_" + NAMES[spec.dtype]


def _instance_group(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": f"{info.id.name}_0",
        "kind": "KIND_CPU" if info.device == "cpu" else "KIND_MODEL",
        "count": 1,
        "gpus": [],
        "secondary_devices": [],
        "profile": [],
        "passive": False,
        "host_policy": "",
    }


def statistics(models: Iterable[ModelStatus]) -> Reply:
    """Of every ready version of every model."""
    return _statistics([version for model in models for version in _ready(model.versions)])


def model_statistics(status: ModelStatus | None, spec: ModelSpec) -> Reply:
    """Of one model's ready versions, or of the one that the route names. Raises NotFound."""
    versions = [] if status is None else _ready(status.versions)
    if spec.version is not None:
        versions = [version for version in versions if version.id.version == spec.version]
    if not versions:
        raise NotFound(spec, model_known=status is not None)
    return _statistics(versions)


def _statistics(versions: list[VersionStatus]) -> Reply:
    ordered = sorted(versions, key=lambda version: version.id)
    return json_reply({"model_stats": [_version_statistics(version) for version in ordered]})


def _version_statistics(version: VersionStatus) -> dict[str, Any]:
    """Since the version was first loaded: clients take the difference of two answers. A request is one inference."""
    succeeded = version.total_answered
    nothing = _spent(0, 0.0)
    return {
        "name": version.id.name,
        "version": str(version.id.version),
        "last_inference": 0,
        "inference_count": succeeded,
        "execution_count": succeeded,
        "inference_stats": {
            "success": _spent(succeeded, version.total_answered_s),
            "fail": _spent(version.total_failures, version.total_failures_s),
            "queue": _spent(succeeded, version.total_queue_s),
            "compute_input": nothing,
            "compute_infer": _spent(succeeded, version.total_run_s),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def _spent(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


def _ready(versions: Iterable[VersionStatus]) -> list[VersionStatus]:
    return [version for version in versions if version.state is State.READY]
