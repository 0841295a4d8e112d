"""Requests over MQTT where nothing travels: when what is published, and when what is acked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edge.domain.errors import NotFound
from edge.domain.models import ModelId, ModelSpec
from edge.domain.ports import ModelStatus
from edge.domain.requests import ModelInfo, PredictRequest, PredictResponse
from edge.domain.tensors import DType, Signature, TensorSpec
from edge.frontends.http.admission import Admission
from edge.frontends.mqtt.answers import Answered
from edge.frontends.mqtt.inference import Inference
from edge.frontends.mqtt.limits import MqttLimits
from edge.mqtt.message import Message, Properties
from edge.mqtt.topics import Tree
from tests.fakes.link import NotingLink
from tests.waiting import until

TREE = Tree("edge", "n")
HALF = b'{"instances": [1.0]}'
SIGNATURE = Signature(
    "serving_default", {"x": TensorSpec("x", DType.FLOAT32, (-1,))}, {"y": TensorSpec("y", DType.FLOAT32, (-1,))}
)
REPLY = "edge/v1/_reply/c/r"


class FakePredictor:
    """Answers 0.5 once `gate` is open. `calls` counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.error = error

    async def predict(self, request: PredictRequest) -> PredictResponse:
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return PredictResponse(ModelId("m", 3), SIGNATURE, {"y": np.array([0.5], np.float32)})


class FakeCatalog:
    def __init__(self) -> None:
        self.starting = False
        self.started = asyncio.Event()
        self.ready = True

    def models(self) -> Sequence[ModelStatus]:
        return ()

    def status(self, name: str) -> ModelStatus | None:
        return None

    def describe(self, spec: ModelSpec) -> ModelInfo:
        raise NotFound(spec, model_known=False)

    async def changed(self) -> None:
        await self.started.wait()


class Rig:
    def __init__(self, *, version: str = "5", limits: MqttLimits | None = None, error: Exception | None = None) -> None:
        self.link = NotingLink(version)
        self.predictor, self.catalog = FakePredictor(error), FakeCatalog()
        self.dropped: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.inference = Inference(
            link=self.link,
            tree=TREE,
            limits=limits or MqttLimits(),
            predictor=self.predictor,
            catalog=self.catalog,
            admission=Admission(
                max_inflight=4,
                max_body_bytes=1 << 20,
                max_inflated_bytes=1 << 20,
                request_timeout_s=5,
                offload=ThreadPoolExecutor(1),
            ),
            refused=lambda protocol, code: self.refused.append((protocol, code)),
            dropped=self.dropped.append,
        )

    def send(self, payload: bytes = HALF, *, topic: str = "edge/v1/n/infer/m", qos: int = 1, **more: object) -> None:
        dup = bool(more.pop("dup", False))
        told = {"response_topic": REPLY, "correlation": b"7"} | more
        self.inference.came(Message(topic, payload, qos, False, dup, Properties(**told)))  # type: ignore[arg-type]

    async def quiet(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def statuses(self) -> list[str | None]:
        return [properties.first("status") for _, _, _, properties in self.link.published]


async def test_an_answer_is_published_before_its_request_is_acked() -> None:
    rig = Rig()
    rig.send()
    await rig.quiet()
    assert rig.link.said == [("publish", REPLY), ("ack", HALF.decode())]
    ((_, payload, qos, properties),) = rig.link.published
    assert (payload, qos, properties.correlation) == (b'{"predictions":[0.5]}', 1, b"7")


async def test_a_request_whose_answer_finds_no_room_is_acked_when_it_has_found_some() -> None:
    rig = Rig()
    rig.link.open.clear()
    rig.send()
    rig.send(qos=0)
    await rig.quiet()
    assert rig.link.said == [("ack", HALF.decode())]  # that of QoS 0, whose answer is lost
    rig.link.open.set()
    await rig.quiet()
    assert rig.link.said[1:] == [("publish", REPLY), ("ack", HALF.decode())]


async def test_one_whose_answer_finds_no_room_in_time_is_counted_and_acked() -> None:
    rig = Rig()
    rig.link.open.clear()
    rig.send(expiry_s=1)
    await until(lambda: rig.dropped == ["expired"])
    await rig.quiet()
    assert rig.link.said == [("ack", HALF.decode())]


async def test_an_answer_that_is_sent_again_waits_for_room_too() -> None:
    rig = Rig()
    rig.send(expiry_s=30)
    await rig.quiet()
    rig.link.open.clear()
    rig.send(dup=True, expiry_s=29)
    await rig.quiet()
    assert len(rig.link.said) == 2
    rig.link.open.set()
    await rig.quiet()
    assert [what for what, _ in rig.link.said] == ["publish", "ack", "publish", "ack"]


async def test_a_request_that_is_delivered_again_gets_its_answer_again_and_is_not_computed_again() -> None:
    rig = Rig()
    rig.send(expiry_s=30)
    await rig.quiet()
    rig.send(dup=True, expiry_s=29)
    await rig.quiet()
    assert rig.predictor.calls == 1
    assert rig.statuses() == ["200", "200"]
    assert [what for what, _ in rig.link.said] == ["publish", "ack", "publish", "ack"]


async def test_one_that_only_has_the_same_correlation_is_computed() -> None:
    rig = Rig()
    rig.send()
    rig.send()
    rig.send(b'{"instances": [2.0]}', dup=True)
    rig.send(qos=0, dup=True)
    await rig.quiet()
    assert rig.predictor.calls == 4


async def test_one_that_is_delivered_again_while_it_is_computed_is_acked_with_the_first() -> None:
    rig = Rig()
    rig.predictor.gate.clear()
    rig.send()
    await rig.quiet()
    rig.send(dup=True)
    await rig.quiet()
    assert rig.link.said == []
    rig.predictor.gate.set()
    await rig.quiet()
    assert rig.predictor.calls == 1
    assert [what for what, _ in rig.link.said] == ["publish", "ack", "ack"]


async def test_while_the_server_goes_down_qos_1_stays_for_its_next_start_and_others_are_told() -> None:
    rig = Rig(limits=MqttLimits(pools=("g",)))
    rig.inference.draining = True
    rig.send()
    await rig.quiet()
    assert rig.link.said == []
    rig.send(qos=0)
    rig.send(topic="edge/v1/_pool/g/infer/m")
    await rig.quiet()
    assert rig.statuses() == ["503", "200"]


async def test_where_the_broker_keeps_no_session_they_are_told_so_too() -> None:
    rig = Rig(version="3.1.1")
    rig.inference.draining = True
    rig.send()
    await rig.quiet()
    assert rig.statuses() == ["503"]
    assert rig.link.said[-1][0] == "ack"


async def test_what_is_being_answered_when_the_server_goes_down_is_finished() -> None:
    rig = Rig()
    rig.predictor.gate.clear()
    rig.send()
    await rig.quiet()
    ending = asyncio.create_task(rig.inference.finish(5))
    await rig.quiet()
    rig.predictor.gate.set()
    await ending
    assert rig.statuses() == ["200"]


async def test_what_takes_longer_than_the_drain_stays_unacked() -> None:
    rig = Rig()
    rig.predictor.gate.clear()
    rig.send()
    await rig.quiet()
    await rig.inference.finish(0.01)
    await rig.quiet()
    assert rig.link.said == []


async def test_what_comes_with_qos_1_while_the_server_starts_waits_for_its_models() -> None:
    rig = Rig()
    rig.catalog.starting = True
    rig.send()
    await rig.quiet()
    assert rig.predictor.calls == 0
    rig.catalog.starting = False
    rig.catalog.started.set()
    await rig.quiet()
    assert rig.statuses() == ["200"]


async def test_what_would_hold_too_many_bytes_is_refused_as_overloaded() -> None:
    rig = Rig(limits=MqttLimits(max_held_bytes=len(HALF) + 5))
    rig.predictor.gate.clear()
    rig.send()
    await rig.quiet()
    rig.send()
    await rig.quiet()
    assert rig.statuses() == ["503"]
    assert rig.refused == [("mqtt", "overloaded")]
    assert rig.link.published[0][3].first("retry-after-ms") == "1000"
    rig.predictor.gate.set()
    await rig.quiet()
    rig.send()
    await rig.quiet()
    assert rig.statuses() == ["503", "200", "200"]


async def test_a_bug_is_a_500_that_says_nothing_of_itself_and_the_request_is_acked() -> None:
    rig = Rig(error=RuntimeError("a secret"))
    rig.send()
    await rig.quiet()
    assert rig.statuses() == ["500"]
    assert rig.link.published[0][1] == b'{"error":"internal error"}'
    assert rig.link.said[-1][0] == "ack"


async def test_nobody_is_answered_whose_time_was_up_when_it_came() -> None:
    rig = Rig()
    rig.send(expiry_s=0)
    await rig.quiet()
    assert (rig.predictor.calls, rig.dropped) == (0, ["expired"])
    assert [what for what, _ in rig.link.said] == ["ack"]


async def test_who_listens_is_told_of_every_answer_and_its_bugs_are_its_own() -> None:
    rig = Rig()
    told: list[Answered] = []

    def buggy(answered: Answered) -> None:
        raise RuntimeError("a bug")

    rig.inference.answered += [buggy, told.append]
    rig.send()
    await rig.quiet()
    assert told == [Answered("m", 3, 200, {"Content-Type": "application/json"}, b'{"predictions":[0.5]}')]
    assert rig.link.said[-1][0] == "ack"


async def test_a_pool_that_this_server_is_not_in_is_none_of_its_business() -> None:
    rig = Rig(limits=MqttLimits(pools=("g",)))
    rig.send(topic="edge/v1/_pool/h/infer/m")
    await rig.quiet()
    assert rig.dropped == ["unknown_topic"]
