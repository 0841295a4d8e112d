"""The gRPC front end before a fake core, on a Unix socket: what reaches the core, and what becomes of what comes back."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc._cython.cygrpc import ExecuteBatchError

from edge.domain.errors import InvalidInput, NotFound, UnknownSignature
from edge.domain.models import ImageOptions, ModelId, ModelSpec
from edge.domain.requests import ModelInfo, PredictRequest, PredictResponse, Target
from edge.domain.tensors import DType, Signature, TensorSpec
from edge.frontends.grpc.calls import Calls
from edge.frontends.grpc.front import Grpc
from edge.frontends.grpc.inference import Inference
from edge.frontends.grpc.limits import GrpcLimits
from edge.frontends.grpc.prediction import Prediction
from edge.frontends.http.admission import Admission
from edge.frontends.http.guard import Guard, Policy
from edge.wire.proto.messages import message
from tests.waiting import until

TFS = "tensorflow.serving"
EXAMPLES = {"inputs": TensorSpec("inputs", DType.STRING, (-1,))}
SIGNATURES = {
    "sort": Signature("sort", EXAMPLES, {"scores": TensorSpec("scores", DType.FLOAT32, (-1, 2))}),
    "rate": Signature("rate", EXAMPLES, {"outputs": TensorSpec("outputs", DType.FLOAT32, (-1, 1))}),
}


class FakeCore:
    """A predictor and a catalog of one model `m`, version 3, which sorts and rates examples; `asked` are the requests."""

    ready = True

    def __init__(self) -> None:
        self.asked: list[PredictRequest] = []
        self.gate: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def predict(self, request: PredictRequest) -> PredictResponse:
        self.asked.append(request)
        await self.gate()
        if request.signature_name not in SIGNATURES:
            raise UnknownSignature(request.signature_name, tuple(SIGNATURES))
        signature = SIGNATURES[request.signature_name]
        inputs = request.payload.bind(Target(ModelId("m", 3), signature, ImageOptions()))
        rows = len(inputs["inputs"])
        given = {
            name: np.ones((rows, spec.shape[1] if spec.shape else 1), np.float32)
            for name, spec in signature.outputs.items()
        }
        return PredictResponse(ModelId("m", 3), signature, given)

    def describe(self, spec: ModelSpec) -> ModelInfo:
        if spec.name != "m":
            raise NotFound(spec, model_known=False)
        return ModelInfo(ModelId("m", 3), "tflite", "cpu", SIGNATURES, (3,), 1)

    def status(self, name: str) -> None:
        return None

    def models(self) -> list[Any]:
        return []


class Served:
    """`ask(method, request)` is one of PredictionService's or ModelService's calls."""

    def __init__(self, core: FakeCore, channel: Any, refused: list[tuple[str, str]], configs: list[bytes]) -> None:
        self.core, self.channel, self.refused, self.configs = core, channel, refused, configs

    async def ask(self, method: str, request: Any, answer: str, *, service: str = "PredictionService", timeout: float = 10.0) -> Any:  # fmt: skip
        stub = self.channel.unary_unary(f"/{TFS}.{service}/{method}")
        data = await stub(request.SerializeToString(), timeout=timeout)
        return message(f"{TFS}.{answer}").FromString(data)


MAX_INFLIGHT = 3
MAX_HELD = 4096


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    core, refused, configs = FakeCore(), list[tuple[str, str]](), list[bytes]()

    async def reconfigure(config: bytes, deadline: float) -> None:
        configs.append(config)
        if config == b"for ever":
            assert deadline == math.inf
        if config == b"bad":
            raise InvalidInput("Illegal to list model m multiple times in config list")

    with ThreadPoolExecutor(1) as pool:
        admission = Admission(
            max_inflight=MAX_INFLIGHT,
            max_body_bytes=1 << 20,
            max_inflated_bytes=1 << 20,
            request_timeout_s=5,
            offload=pool,
        )
        limits = GrpcLimits(max_message_bytes=1 << 16, max_held_bytes=MAX_HELD, request_timeout_s=5.0)
        calls = Calls(
            guard=Guard(Policy()), admission=admission, limits=limits, refused=lambda *pair: refused.append(pair)
        )
        services = Prediction(calls, predictor=core, catalog=core, reconfigure=reconfigure).services()
        services |= Inference(calls, predictor=core, catalog=core, control=None, version="1").services()
        front = Grpc(calls, services)
        await front.listen_unix(tmp_path / "s")
        await front.start()
        async with grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
            yield Served(core, channel, refused, configs)
        await front.close(0.0)


def multi(*tasks: tuple[str, str], examples: int = 2) -> Any:
    request = message(f"{TFS}.MultiInferenceRequest")()
    request.input.example_list.examples.extend([b"e"] * examples)
    for name, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "m", name
    return request


def examples(kind: str, name: str, *given: bytes) -> Any:
    request = message(f"{TFS}.{kind}")()
    request.model_spec.name, request.model_spec.signature_name = "m", name
    request.input.example_list.examples.extend(given)
    return request


RATE = examples("RegressionRequest", "rate", b"a")


async def test_examples_are_classified_and_rated(served: Served) -> None:
    reply = await served.ask(
        "Classify", examples("ClassificationRequest", "sort", b"a", b"b"), "ClassificationResponse"
    )
    assert [[each.score for each in row.classes] for row in reply.result.classifications] == [[1.0, 1.0], [1.0, 1.0]]
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (3, "sort")
    reply = await served.ask("Regress", RATE, "RegressionResponse")
    assert [each.value for each in reply.result.regressions] == [1.0]
    assert [(each.protocol, each.spec) for each in served.core.asked] == [("grpc", ModelSpec("m"))] * 2


async def test_several_inferences_are_all_asked_of_one_version(served: Served) -> None:
    reply = await served.ask(
        "MultiInference", multi(("sort", "classify"), ("rate", "regress")), "MultiInferenceResponse"
    )
    assert [row.WhichOneof("result") for row in reply.results] == ["classification_result", "regression_result"]
    assert [each.spec for each in served.core.asked] == [ModelSpec("m", 3)] * 2


async def test_a_configuration_goes_to_who_takes_it_and_what_is_wrong_comes_back(served: Served) -> None:
    request = message(f"{TFS}.ReloadConfigRequest")(config=b"\x0a\x00")
    reply = await served.ask("HandleReloadConfigRequest", request, "ReloadConfigResponse", service="ModelService")
    assert (reply.status.error_code, served.configs) == (0, [b"\x0a\x00"])
    request.config = b"bad"
    with pytest.raises(grpc.aio.AioRpcError, match="Illegal to list model m multiple times") as caught:
        await served.ask("HandleReloadConfigRequest", request, "ReloadConfigResponse", service="ModelService")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_configuration_has_as_long_as_its_client_waits(served: Served) -> None:
    request = message(f"{TFS}.ReloadConfigRequest")(config=b"for ever")
    stub = served.channel.unary_unary(f"/{TFS}.ModelService/HandleReloadConfigRequest")
    assert await stub(request.SerializeToString()) == b"\x0a\x00"


async def test_a_calls_deadline_is_the_requests(served: Served) -> None:
    for timeout in (2.0, 100.0):  # gRPC rounds it up on the wire, by less than a fiftieth
        await served.ask("Regress", RATE, "RegressionResponse", timeout=timeout)
        assert timeout - 1.0 < left(served.core.asked[-1]) < timeout * 1.02
    stub = served.channel.unary_unary(f"/{TFS}.PredictionService/Regress")
    await stub(RATE.SerializeToString())
    assert 4.0 < left(served.core.asked[-1]) <= 5.0


def left(request: PredictRequest) -> float:
    """Seconds to its deadline."""
    assert request.deadline is not None
    return request.deadline - asyncio.get_running_loop().time()


async def test_a_bug_is_internal_and_leaves_its_traceback_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong() -> None:
        raise ZeroDivisionError("a secret")

    served.core.gate = wrong
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.ask("Regress", RATE, "RegressionResponse")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "ZeroDivisionError: a secret" in caplog.text


async def test_one_call_too_many_is_refused_and_told_when_to_come_back(served: Served) -> None:
    opened = asyncio.Event()
    served.core.gate = opened.wait
    under_way = [asyncio.ensure_future(served.ask("Regress", RATE, "RegressionResponse")) for _ in range(MAX_INFLIGHT)]
    await until(lambda: len(served.core.asked) == MAX_INFLIGHT)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.ask("Regress", RATE, "RegressionResponse")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ("grpc-retry-pushback-ms", "1000") in [tuple(pair) for pair in caught.value.trailing_metadata()]
    assert served.refused == [("grpc", "overloaded")]
    opened.set()
    assert len(await asyncio.gather(*under_way)) == MAX_INFLIGHT


async def test_messages_are_held_to_a_bound_together_and_given_back(served: Served) -> None:
    opened = asyncio.Event()
    served.core.gate = opened.wait
    large = examples("RegressionRequest", "rate", b"a" * (MAX_HELD - 100))
    under_way = asyncio.ensure_future(served.ask("Regress", large, "RegressionResponse"))
    await until(lambda: bool(served.core.asked))
    with pytest.raises(grpc.aio.AioRpcError, match="max_inflight_body_bytes"):
        await served.ask("Regress", large, "RegressionResponse")
    opened.set()
    await under_way
    await served.ask("Regress", large, "RegressionResponse")


async def test_a_call_that_is_given_up_is_cancelled_where_it_waits(served: Served) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    served.core.gate = wait
    stub = served.channel.unary_unary(f"/{TFS}.PredictionService/Regress")
    calls = [stub(RATE.SerializeToString()) for _ in range(MAX_INFLIGHT)]
    await until(lambda: len(served.core.asked) == MAX_INFLIGHT)
    for each in calls:
        each.cancel()
    await until(lambda: len(ended) == MAX_INFLIGHT)
    served.core.gate = lambda: asyncio.sleep(0)
    await served.ask("Regress", RATE, "RegressionResponse")


async def test_loading_is_forbidden_where_clients_may_not_control(served: Served) -> None:
    stub = served.channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
    with pytest.raises(grpc.aio.AioRpcError, match=r"http\.model_control is off") as caught:
        await stub(message("inference.RepositoryModelLoadRequest")(model_name="m").SerializeToString())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("error", "told"), [(ExecuteBatchError("execute_batch", []), 0), (ValueError("a bug"), 1)])
def test_a_client_that_goes_as_it_is_answered_is_no_news_and_a_bug_is(
    error: Exception, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("grpc._cython.cygrpc")
    try:
        raise error
    except Exception:
        log.exception("Unexpected [%s] raised by servicer method", type(error).__name__)
    assert len(caplog.records) == told
