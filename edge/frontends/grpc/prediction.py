"""TensorFlow Serving's PredictionService and ModelService: decode, predict, encode."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from edge.domain.errors import EdgeError, InferenceFailed, Unsupported
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog, Predictor
from edge.domain.requests import PredictRequest, PredictResponse
from edge.frontends.grpc.calls import PROTOCOL, Call, Calls
from edge.wire import tfserving_grpc as wire
from edge.wire import tfserving_grpc_models as models
from edge.wire.grpc_status import Failure, tfserving_failure
from edge.wire.tfserving_examples import Method
from edge.wire.tfserving_routes import Verb

log = logging.getLogger(__name__)

Reconfigure = Callable[[bytes], Awaitable[None]]
"""Takes a serialized `tensorflow.serving.ModelServerConfig`. Raises EdgeError."""


class Prediction:
    """`reconfigure` is None where models are not configured over gRPC."""

    def __init__(
        self, calls: Calls, *, predictor: Predictor, catalog: Catalog, reconfigure: Reconfigure | None = None
    ) -> None:
        self._calls, self._predictor, self._catalog = calls, predictor, catalog
        self._reconfigure = reconfigure

    def services(self) -> dict[str, dict[str, Any]]:
        """Handlers by service and method."""
        unary = self._calls.unary
        return {
            f"{wire.PACKAGE}.PredictionService": {
                "Predict": unary(self._predict, partial(_words, "predict")),
                "Classify": unary(partial(self._examples, "classify"), partial(_words, "classify")),
                "Regress": unary(partial(self._examples, "regress"), partial(_words, "regress")),
                "MultiInference": unary(self._multi_inference, partial(_words, "classify")),
                "GetModelMetadata": unary(self._metadata, partial(_words, "metadata")),
            },
            f"{wire.PACKAGE}.ModelService": {
                "GetModelStatus": unary(self._status, partial(_words, "status")),
                "HandleReloadConfigRequest": unary(self._reload, partial(_words, "status")),
            },
        }

    async def _predict(self, call: Call) -> bytes:
        read, admission = self._calls.admission.read, self._calls.admission
        most = self._calls.limits.max_message_bytes
        if admission.is_small(len(call.body)):
            asked = wire.parse_predict(call.body, most)
        else:
            asked = await read(len(call.body), call.deadline, wire.parse_predict, call.body, most)
        call.model = asked.spec.name
        call.claim(asked.payload.size)
        response = await self._ask(call, asked.spec, asked.signature_name, asked.payload)
        outputs = asked.payload.outputs
        return await read(response.nbytes, call.deadline, wire.encode_predict, response, outputs)

    async def _examples(self, method: Method, call: Call) -> bytes:
        read = self._calls.admission.read
        asked = await read(len(call.body), call.deadline, wire.parse_examples, call.body, method)
        response = await self._ask(call, asked.spec, asked.signature_name, asked.payload)
        encode = wire.encode_classification if method == "classify" else wire.encode_regression
        return await read(response.nbytes, call.deadline, encode, response)

    async def _multi_inference(self, call: Call) -> bytes:
        """All by the version that is there at the beginning."""
        read = self._calls.admission.read
        tasks = await read(len(call.body), call.deadline, wire.parse_multi_inference, call.body)
        version = self._catalog.describe(tasks[0].asked.spec).id
        spec = ModelSpec(version.name, version.version)
        answers = [
            (task.method, await self._ask(call, spec, task.asked.signature_name, task.asked.payload)) for task in tasks
        ]
        size = sum(response.nbytes for _, response in answers)
        return await read(size, call.deadline, wire.encode_multi_inference, answers)

    async def _ask(self, call: Call, spec: ModelSpec, signature: str, payload: Any) -> PredictResponse:
        call.reached = True
        wish = PredictRequest(spec, payload, signature, None, call.deadline, PROTOCOL, carried=call.carried)
        return await self._predictor.predict(wish)

    async def _metadata(self, call: Call) -> bytes:
        return models.encode_metadata(self._catalog.describe(models.parse_metadata(call.body)))

    async def _status(self, call: Call) -> bytes:
        spec = models.parse_status(call.body)
        return models.encode_status(self._catalog.status(spec.name), spec)

    async def _reload(self, call: Call) -> bytes:
        config = models.parse_reload(call.body)
        if self._reconfigure is None:
            raise Unsupported(
                "HandleReloadConfigRequest: this server's models are those of its own configuration; "
                "change that, and send SIGHUP or POST /v1/reload to the admin socket"
            )
        await self._reconfigure(config)
        return models.encode_reloaded()


def _words(verb: Verb, error: EdgeError, call: Call | None) -> Failure:
    if isinstance(error, InferenceFailed):
        log.error("%s: %s", call.model if call else "", error.message)
    return tfserving_failure(error, verb)
