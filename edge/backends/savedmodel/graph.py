"""In the worker: a SavedModel as TensorFlow Serving loads and runs it, in a session.

Rule 1: only a worker imports this. Rule 2: what is called by a signature's keys is found by its tensors' names. Rule 3: a session
runs a list of tensors that was prepared at load: that is a fifth of what it takes to name them in each run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edge.backends.savedmodel.reach import keeps_inputs
from edge.backends.savedmodel.signatures import Route, batch, default, routes
from edge.backends.savedmodel.warmup import WARMUP, replay
from edge.backends.worker.program import Broken, Computing, Load
from edge.domain.errors import EdgeError, InferenceFailed, InvalidInput, LoadError, Overloaded, Unsupported
from edge.domain.tensors import Array, Signature, Tensors

MAX_REASON_CHARS = 1_000
_GPU_FAULTS = ("CUDA_ERROR", "CUDNN_STATUS", "CUBLAS_STATUS", "cudaError", "GPU launch failed", "device-side assert")


def prepare() -> Load:
    """Raises LoadError where TensorFlow cannot be imported."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise LoadError(f"TensorFlow cannot be imported ({error}): install edge-serving[gpu]") from None
    tf.get_logger().setLevel("ERROR")
    return load


def load(job: Mapping[str, Any]) -> Computing:
    """Restores the variables, runs the initializers and replays the warmup requests. Raises LoadError."""
    import tensorflow as tf

    device, notice = _device(tf, job["gpu"])
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=_config(tf, job, device))
    meta = _restore(tf, session, job["path"], list(job["tags"]))
    graph.finalize()
    found, left_out = routes(meta.signature_def)
    if not found:
        raise LoadError("it has no signature that can be served" + (f": {'; '.join(left_out)}" if left_out else ""))
    notice = "; ".join([*filter(None, [notice]), *left_out])
    fetched = [tensor for route in found.values() for tensor in route.outputs.values()]
    model = SessionModel(
        session,
        found,
        device=device,
        notice=notice,
        max_batch=batch(default(found), int(job["max_batch"])),
        keeps_inputs=keeps_inputs(meta.graph_def, fetched),
    )
    requests = os.path.join(job["path"], WARMUP)
    if os.path.isfile(requests):
        replay(requests, model)
    return model


def _restore(tf: Any, session: Any, path: str, tags: list[str]) -> Any:
    """The MetaGraphDef. Raises LoadError."""
    try:
        return tf.compat.v1.saved_model.loader.load(session, tags, path)
    except (tf.errors.OpError, RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        raise LoadError(f"saved_model.pb: {_said(error)}") from None


def _config(tf: Any, job: Mapping[str, Any], device: str) -> Any:
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=job["num_threads"],
        inter_op_parallelism_threads=job["inter_op_threads"],
        allow_soft_placement=True,
    )
    if job["xla"]:
        config.graph_options.optimizer_options.global_jit_level = tf.compat.v1.OptimizerOptions.ON_1
    rewrite = config.graph_options.rewrite_options
    if job["mixed_precision"] == "float16":
        rewrite.auto_mixed_precision = rewrite.ON
    elif job["mixed_precision"] == "bfloat16":
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
    if device == "cpu":
        config.device_count["GPU"] = 0
        return config
    config.gpu_options.visible_device_list = device.removeprefix("gpu:")
    if job["gpu_memory_bytes"]:
        limit = config.gpu_options.experimental.virtual_devices.add()
        limit.memory_limit_mb.append(max(1.0, job["gpu_memory_bytes"] / 2**20))
    else:
        config.gpu_options.allow_growth = True
    return config


def _device(tf: Any, gpu: int | None) -> tuple[str, str]:
    """What it runs on, and why that is not what was asked for."""
    if gpu is None:
        return "cpu", ""
    there = len(tf.config.list_physical_devices("GPU"))
    if gpu < there:
        return f"gpu:{gpu}", ""
    sees = f"{there} GPUs" if there > 1 else "one GPU" if there else "no GPU"
    return "cpu", f"gpu:{gpu}: TensorFlow sees {sees} here; serving it on the CPU"


@dataclass(frozen=True, slots=True)
class _Call:
    """What a session was prepared for. `same`: outputs that are inputs as they came, by the input's name."""

    feeds: tuple[str, ...]
    outputs: tuple[str, ...]
    same: Mapping[str, str]
    run: Callable[..., list[Any]]


class SessionModel:
    """A `Computing`."""

    def __init__(
        self, session: Any, found: Mapping[str, Route], *, device: str, notice: str, max_batch: int, keeps_inputs: bool
    ) -> None:
        self.signatures: Mapping[str, Signature] = MappingProxyType(
            {key: each.signature for key, each in found.items()}
        )
        self.device, self.notice, self.max_batch, self.keeps_inputs = device, notice, max_batch, keeps_inputs
        self._session = session
        self._calls = {key: _prepare(session, each) for key, each in found.items()}

    def run(self, signature: str, inputs: Tensors) -> dict[str, Array]:
        """Raises EdgeError, by what TensorFlow's own codes mean to a client."""
        call = self._calls[signature]
        try:
            answer = call.run(*[inputs[name] for name in call.feeds])
        except Exception as error:
            raise _told(error, self.device) from None
        outputs = {name: _array(value) for name, value in zip(call.outputs, answer, strict=True)}
        return outputs | {name: inputs[source] for name, source in call.same.items()}


def _prepare(session: Any, route: Route) -> _Call:
    """One tensor may be several inputs' or outputs' of a signature, or both at once: a session wants each only once."""
    from tensorflow.core.protobuf import config_pb2

    fed = {tensor: name for name, tensor in route.inputs.items()}
    same = {name: fed[tensor] for name, tensor in route.outputs.items() if tensor in fed}
    outputs = {name: tensor for name, tensor in route.outputs.items() if name not in same}
    options = config_pb2.CallableOptions(feed=list(fed), fetch=list(outputs.values()))
    run = session._make_callable_from_options(options) if outputs else lambda *_: []
    return _Call(tuple(fed.values()), tuple(outputs), same, run)


def _array(value: Any) -> Array:
    """A string of rank 0 comes as `bytes`."""
    return np.array(value, object) if isinstance(value, bytes | str) else np.asarray(value)


def _told(error: Exception, device: str) -> EdgeError:
    """What a run raised, as the error that it is to a client."""
    import tensorflow as tf

    said = _said(error)
    errors = tf.errors
    if any(word in said for word in _GPU_FAULTS) or (device != "cpu" and isinstance(error, errors.AbortedError)):
        return Broken(f"{device}: {said}")
    if isinstance(error, errors.InvalidArgumentError | errors.OutOfRangeError):
        return InvalidInput(said)
    if isinstance(error, errors.UnimplementedError):
        return Unsupported(said)
    if isinstance(error, errors.ResourceExhaustedError | MemoryError):
        return Overloaded(f"not enough memory: {said}")
    return InferenceFailed(said)


def _said(error: Exception) -> str:
    """TensorFlow's message without where in its own sources and in the graph it happened, on one line."""
    text = str(getattr(error, "message", None) or error).split("\n\nOriginal stack trace")[0]
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith(("[[", "\t"))]
    return " ".join(lines)[:MAX_REASON_CHARS] or type(error).__name__
