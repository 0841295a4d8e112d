"""The Open Inference Protocol v2, `inference.GRPCInferenceService`: decode, predict, encode.

Rule: a stream is answered in its order, one message at a time; what fails of it is told in the stream, which goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from edge.domain.errors import ControlFailed, EdgeError, Forbidden
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog, Control, Predictor
from edge.frontends.grpc.calls import PROTOCOL, Call, Calls
from edge.wire import v2_grpc, v2_metadata, v2_repository
from edge.wire import v2_grpc_about as about
from edge.wire.grpc_status import Failure, v2_failure
from edge.wire.proto.messages import parse, to_bytes
from edge.wire.v2_errors import control_wording

SERVICE = "inference.GRPCInferenceService"


class Inference:
    """`control` is None where clients may not control."""

    def __init__(
        self, calls: Calls, *, predictor: Predictor, catalog: Catalog, control: Control | None, version: str
    ) -> None:
        self._calls, self._predictor, self._catalog, self._control = calls, predictor, catalog, control
        self._version = version
        self._now = calls.now

    def services(self) -> dict[str, dict[str, Any]]:
        """Handlers by service and method."""

        def unary(work: Callable[[Call], Awaitable[bytes]], *, open_to_all: bool = False) -> Any:
            return self._calls.unary(work, _words, open_to_all=open_to_all)

        methods = {
            "ServerLive": unary(self._live, open_to_all=True),
            "ServerReady": unary(self._ready, open_to_all=True),
            "ModelReady": unary(self._model_ready),
            "ServerMetadata": unary(self._server_metadata),
            "ModelMetadata": unary(self._model_metadata),
            "ModelConfig": unary(self._model_config),
            "ModelStatistics": unary(self._statistics),
            "RepositoryIndex": unary(self._index),
            "RepositoryModelLoad": unary(self._load),
            "RepositoryModelUnload": unary(self._unload),
            "ModelInfer": unary(self._infer),
            "ModelStreamInfer": self._calls.stream(self._stream, _words),
        }
        return {SERVICE: methods}

    async def _infer(self, call: Call) -> bytes:
        return to_bytes(await self._answer(call))

    async def _stream(self, context: Any) -> None:
        async for call in self._calls.messages(context):
            try:
                with self._calls.admission:
                    call.claim(len(call.body))
                    answer = about.streamed(await self._answer(call))
            except EdgeError as error:
                answer = about.streamed(error=self._calls.failed(error, call, _words).text, request_id=call.id)
            await context.write(answer)

    async def _answer(self, call: Call) -> Any:
        """A ModelInferResponse."""
        admission = self._calls.admission
        if admission.is_small(len(call.body)):
            asked = v2_grpc.parse_infer(call.body)
        else:
            asked = await admission.aside(call.deadline, v2_grpc.parse_infer, call.body)
        call.model, call.id = asked.spec.name, asked.parsed.id
        wish = asked.parsed.request(
            asked.spec, now=self._now(), deadline=call.deadline, protocol=PROTOCOL, carried=call.carried
        )
        call.reached = True
        response = await self._predictor.predict(wish)
        return await admission.read(response.nbytes, call.deadline, v2_grpc.reply, response, asked)

    async def _live(self, call: Call) -> bytes:
        return about.answer("ServerLiveResponse", live=True)

    async def _ready(self, call: Call) -> bytes:
        return about.answer("ServerReadyResponse", ready=self._catalog.ready)

    async def _model_ready(self, call: Call) -> bytes:
        spec = self._spec(call, "ModelReadyRequest")
        try:
            self._catalog.describe(spec)
        except EdgeError:
            return about.answer("ModelReadyResponse", ready=False)
        return about.answer("ModelReadyResponse", ready=True)

    async def _server_metadata(self, call: Call) -> bytes:
        reply = v2_metadata.server_metadata("edge", self._version, control=self._control is not None)
        return about.from_reply("ServerMetadataResponse", reply)

    async def _model_metadata(self, call: Call) -> bytes:
        info = self._catalog.describe(self._spec(call, "ModelMetadataRequest"))
        return about.from_reply("ModelMetadataResponse", v2_metadata.model_metadata(info))

    async def _model_config(self, call: Call) -> bytes:
        info = self._catalog.describe(self._spec(call, "ModelConfigRequest"))
        return about.from_reply("ModelConfigResponse", v2_metadata.model_config(info), under="config")

    async def _statistics(self, call: Call) -> bytes:
        spec = self._spec(call, "ModelStatisticsRequest")
        reply = (
            v2_metadata.model_statistics(self._catalog.status(spec.name), spec)
            if spec.name
            else v2_metadata.statistics(self._catalog.models())
        )
        return about.from_reply("ModelStatisticsResponse", reply)

    async def _index(self, call: Call) -> bytes:
        asked = parse("inference.RepositoryIndexRequest", call.body)
        reply = v2_repository.index(self._catalog.models(), ready_only=asked.ready)
        return about.from_reply("RepositoryIndexResponse", reply, under="models")

    async def _load(self, call: Call) -> bytes:
        name = self._controlled(call, "RepositoryModelLoadRequest")
        assert self._control is not None
        await self._control_worded(name, "load", self._control.load)
        return about.answer("RepositoryModelLoadResponse")

    async def _unload(self, call: Call) -> bytes:
        name = self._controlled(call, "RepositoryModelUnloadRequest")
        assert self._control is not None
        await self._control_worded(name, "unload", self._control.unload)
        return about.answer("RepositoryModelUnloadResponse")

    def _controlled(self, call: Call, message: str) -> str:
        """The model's name. Raises InvalidInput, Forbidden."""
        asked = parse(f"inference.{message}", call.body)
        about.check_load(asked.parameters)
        if self._control is None:
            raise Forbidden("explicit model load / unload is not allowed (http.model_control is off)")
        name: str = asked.model_name
        return name

    async def _control_worded(self, name: str, action: str, act: Callable[[str], Awaitable[None]]) -> None:
        """Raises ControlFailed, in Triton's words."""
        try:
            await act(name)
        except ControlFailed as error:
            known = self._catalog.status(name) is not None
            raise ControlFailed(control_wording(error, name, action, known)) from None

    def _spec(self, call: Call, message: str) -> ModelSpec:
        """Raises InvalidInput."""
        asked = parse(f"inference.{message}", call.body)
        call.model = asked.name
        return v2_grpc.spec_of(asked.name, asked.version)


def _words(error: EdgeError, call: Call | None) -> Failure:
    return v2_failure(error, model=call.model if call else "", request_id=call.id if call else "")
