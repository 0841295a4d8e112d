"""The generator of MQTT requests that the benchmarks use: it counts what was answered rightly, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.mqtt_load import Generator
from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.responder import TREE, responder

ASKED = f"{TREE.base}/infer/echo"


@pytest.fixture(scope="module")
def broker(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(mosquitto, tmp_path_factory.mktemp("load")) as broker, responder(broker.port):
        yield broker


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("size", [1, 100_000])
def test_every_request_is_answered_and_timed(broker: Broker, qos: int, window: int, size: int) -> None:
    generator = Generator(broker.port, ASKED, b"x" * size, qos=qos, content_type="text/plain")
    try:
        seen = generator.run(window, 0.1)
    finally:
        generator.close()
    assert generator.right == b"x" * size
    assert len(seen.took) > window
    assert all(0 < took < seen.seconds for took in seen.took)


def test_an_answer_that_is_not_the_right_one_ends_the_run(broker: Broker) -> None:
    generator = Generator(broker.port, ASKED, b"x", qos=1, content_type="text/plain")
    generator.right = b"y"
    with pytest.raises(RuntimeError, match="a wrong answer"):
        generator.run(1, 0.1)
    generator.close()


def test_an_answer_that_says_of_itself_that_it_is_an_error_ends_the_run(broker: Broker) -> None:
    topic = f"{TREE.root}/elsewhere"
    generator = Generator(broker.port, topic, b"x", qos=0, content_type="text/plain")
    with broker.peer() as peer:
        peer.subscribe(topic)
        peer.client.on_message = lambda client, data, message: _answer(peer, message, [("status", "503")])
        with pytest.raises(RuntimeError, match="503"):
            generator.run(1, 0.1)
    generator.close()


def _answer(peer: Peer, message: object, user: list[tuple[str, str]]) -> None:
    asked = message.properties  # type: ignore[attr-defined]  # paho's
    peer.publish(asked.ResponseTopic, b"x", qos=0, CorrelationData=asked.CorrelationData, UserProperty=user)
