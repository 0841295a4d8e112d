"""A server of two models made of the functions under test: what a front end and a core do, without either.

`half`: x FP32 [-1,1] → y = x / 2 + 2. `two`: a and b INT32 [-1,2] → s = a + b, and n BYTES [-1], `row0`, `row1`, …
Both are quantized nowhere, at version 1, and batch up to 8.
"""

from __future__ import annotations

import numpy as np

from edge.core.check import check
from edge.domain.errors import ControlFailed, EdgeError, NotFound
from edge.domain.lifecycle import State
from edge.domain.models import ImageOptions, ModelId, ModelSpec
from edge.domain.ports import ModelStatus, VersionStatus
from edge.domain.requests import ModelInfo, PredictResponse, Target
from edge.domain.tensors import DType, Signature, Tensors, TensorSpec
from edge.wire import v2_metadata, v2_repository
from edge.wire.reply import Reply
from edge.wire.v2_errors import control_failed, error_response
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import parse_header_length, parse_infer
from edge.wire.v2_routes import Kind, V2Route, refusal, route


def specs(**tensors: tuple[DType, tuple[int, ...] | None]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(name, dtype, shape) for name, (dtype, shape) in tensors.items()}


SIGNATURES = {
    "half": Signature("serving_default", specs(x=(DType.FLOAT32, (-1, 1))), specs(y=(DType.FLOAT32, (-1, 1)))),
    "two": Signature(
        "serving_default",
        specs(a=(DType.INT32, (-1, 2)), b=(DType.INT32, (-1, 2))),
        specs(s=(DType.INT32, (-1, 2)), n=(DType.STRING, (-1,))),
    ),
}


def compute(name: str, inputs: Tensors) -> Tensors:
    if name == "half":
        return {"y": inputs["x"] / np.float32(2) + np.float32(2)}
    total = inputs["a"] + inputs["b"]
    rows = np.empty(len(total), object)
    rows[:] = [b"row%d" % index for index in range(len(total))]
    return {"s": total, "n": rows}


class V2Server:
    """Answers one request at a time. `unload` takes the model away at once."""

    def __init__(self) -> None:
        self._states = dict.fromkeys(SIGNATURES, State.READY)

    def ask(self, method: str, path: str, body: bytes = b"", header: str | None = None) -> Reply:
        found = route(method, path)
        try:
            return self._answer(found, body, header)
        except EdgeError as error:
            return error_response(error, model=found.spec.name)

    def _answer(self, found: V2Route, body: bytes, header: str | None) -> Reply:
        spec = found.spec
        match found.kind:
            case Kind.SERVER_METADATA:
                return v2_metadata.server_metadata("edge", "1.2.3", control=True)
            case Kind.LIVE:
                return v2_metadata.health(True)
            case Kind.READY:
                return v2_metadata.health(all(state is State.READY for state in self._states.values()))
            case Kind.MODELS:
                return v2_metadata.model_names(self.models())
            case Kind.STATS:
                return v2_metadata.statistics(self.models())
            case Kind.MODEL_METADATA:
                return v2_metadata.model_metadata(self.describe(spec))
            case Kind.MODEL_READY:
                return v2_metadata.model_ready(self._is_ready(spec))
            case Kind.MODEL_CONFIG:
                return v2_metadata.model_config(self.describe(spec))
            case Kind.MODEL_STATS:
                status = {model.name: model for model in self.models()}.get(spec.name)
                return v2_metadata.model_statistics(status, spec)
            case Kind.INFER:
                return self._infer(spec, body, header)
            case Kind.REPOSITORY_INDEX:
                return v2_repository.index(self.models(), ready_only=v2_repository.wants_ready_only(body))
            case Kind.REPOSITORY_LOAD | Kind.REPOSITORY_UNLOAD:
                return self._control(found, body)
            case _:
                return refusal(found)

    def _infer(self, spec: ModelSpec, body: bytes, header: str | None) -> Reply:
        parsed = parse_infer(body, None if header is None else parse_header_length(header), spec)
        info = self.describe(spec)
        target = Target(info.id, info.default_signature, ImageOptions())
        try:
            inputs = parsed.payload.bind(target)
            check(target.signature, inputs, max_batch=info.max_batch)
            outputs = compute(spec.name, inputs)
        except EdgeError as error:
            return error_response(error, model=spec.name, request_id=parsed.id)
        return Reply(200, *encode_infer(PredictResponse(info.id, info.default_signature, outputs), parsed))

    def _control(self, found: V2Route, body: bytes) -> Reply:
        v2_repository.check_control(body)
        name, loads = found.spec.name, found.kind is Kind.REPOSITORY_LOAD
        if name not in self._states:
            error = ControlFailed(f"{name}: no such model")
            return control_failed(error, model=name, action="load" if loads else "unload", known=False)
        self._states[name] = State.READY if loads else State.DRAINING
        return v2_repository.controlled()

    def models(self) -> list[ModelStatus]:
        return [
            ModelStatus(name, [VersionStatus(ModelId(name, 1), state, device="cpu")], {})
            for name, state in self._states.items()
        ]

    def describe(self, spec: ModelSpec) -> ModelInfo:
        if not self._is_ready(spec):
            raise NotFound(spec, model_known=spec.name in self._states)
        signatures = {"serving_default": SIGNATURES[spec.name]}
        return ModelInfo(ModelId(spec.name, 1), "python", "cpu", signatures, (1,), max_batch=8)

    def _is_ready(self, spec: ModelSpec) -> bool:
        return self._states.get(spec.name) is State.READY and spec.version in (None, 1)
