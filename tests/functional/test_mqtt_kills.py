"""What becomes of requests over MQTT when the broker ends, when there are too many of them, and when a requester does not read."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from edge.mqtt.message import CORRELATION, RESPONSE_TOPIC, variable_length
from tests.functional import zoo
from tests.functional.broker import Broker, running_broker
from tests.functional.mqtt_requester import EXPIRED, Requester
from tests.functional.server import Running, configuration, serving
from tests.waiting import until_blocking

MANY = [2_000, pytest.param(20_000, marks=pytest.mark.slow)]
"""Requests."""
BACK_WITHIN_S = 5.0
TEN_MS = b'{"inputs": [-62500.0]}'
"""For `looping`."""
FLOOD = 2_000
AT_ONCE = 500
MAX_GROWTH_BYTES = 64 * 2**20


@contextmanager
def serving_at(broker: Broker, tmp_path: Path, models: dict[str, Path], *settings: str) -> Iterator[Running]:
    config = tmp_path / "edge.toml"
    configuration(config, models, f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nnode = "kills"\n')
    with serving(tmp_path, "--config", config, *(word for each in settings for word in ("--set", each))) as server:
        until_blocking(lambda: b"edge_mqtt_connected 1" in server.ask("/metrics")[1], server.log.read_text)
        yield server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("requests", MANY)
def test_requests_at_qos_1_lose_none_when_the_broker_is_restarted_in_their_midst(
    mosquitto: str, tmp_path: Path, requests: int
) -> None:
    with (
        running_broker(mosquitto, tmp_path / "broker", persistence=True) as broker,
        serving_at(broker, tmp_path, {"half": zoo.half(tmp_path)}),
        Requester(broker.port, "kills", "half", "asker", expiry_s=120).connected() as asker,
    ):
        asking = threading.Thread(target=asker.ask, args=(requests, zoo.HALF))
        asking.start()
        until_blocking(lambda: asker.outcomes["200"] > requests // 3, lambda: asker.outcomes, within_s=120)
        broker.stop(signal.SIGTERM)
        broker.start()
        asking.join(240)
        assert asker.outcomes == {"200": requests}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("requests", MANY)
def test_requests_are_answered_or_known_to_be_lost_when_the_broker_is_killed_in_their_midst(
    mosquitto: str, tmp_path: Path, requests: int
) -> None:
    window = 16
    with (
        running_broker(mosquitto, tmp_path / "broker") as broker,
        serving_at(broker, tmp_path, {"half": zoo.half(tmp_path)}) as server,
        Requester(broker.port, "kills", "half", "asker", window=window, expiry_s=10).connected() as asker,
    ):
        asking = threading.Thread(target=asker.ask, args=(requests, zoo.HALF))
        asking.start()
        until_blocking(lambda: asker.outcomes["200"] > requests // 3, lambda: asker.outcomes, within_s=120)
        broker.kill()
        broker.start()
        end = time.monotonic() + BACK_WITHIN_S
        with Requester(broker.port, "kills", "half", "probe", expiry_s=1).connected() as probe:
            while not probe.outcomes["200"]:
                assert time.monotonic() < end, server.log.read_text()
                probe.ask(1, zoo.HALF)
        asking.join(240)
        assert set(asker.outcomes) <= {"200", EXPIRED}
        assert asker.outcomes.total() == requests
        assert asker.outcomes[EXPIRED] <= window, "no more than what was under way"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("qos", [0, 1])
def test_ten_times_more_requests_than_can_be_served_cost_bounded_memory_and_each_is_answered_or_expires(
    mosquitto: str, tmp_path: Path, qos: int
) -> None:
    models = {"loop": zoo.looping(tmp_path), "half": zoo.half(tmp_path)}
    with (
        running_broker(mosquitto, tmp_path / "broker") as broker,
        serving_at(broker, tmp_path, models, "models.loop.instances=1", "models.loop.max_queue=16") as server,
        Requester(broker.port, "kills", "loop", "asker", window=AT_ONCE, expiry_s=5).connected() as asker,
    ):
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        asking = threading.Thread(target=asker.ask, args=(FLOOD, TEN_MS), kwargs={"qos": qos})
        asking.start()
        elsewhere = 0
        while asking.is_alive():
            assert server.ask("/v1/models/half:predict", zoo.HALF)[0] == 200
            elsewhere += 1
            asking.join(0.05)
        assert process.memory_info().rss - before < MAX_GROWTH_BYTES
        assert set(asker.outcomes) <= {"200", "503", "504", EXPIRED}, asker.outcomes
        assert asker.outcomes.total() == FLOOD
        assert asker.outcomes["200"] > 0
        assert asker.outcomes["503"] > 0 or qos == 1, "what finds no room is told so"
        assert elsewhere > 10
        asker.outcomes.clear()
        asker.ask(1, b'{"inputs": [0.0]}')
        assert asker.outcomes == {"200": 1}, "and then it serves on"


def test_a_requester_that_reads_no_answers_holds_up_no_other(mosquitto: str, tmp_path: Path) -> None:
    body = b'{"instances": [%s]}' % b", ".join([b"1.0"] * 5_000)
    with (
        running_broker(mosquitto, tmp_path / "broker") as broker,
        serving_at(broker, tmp_path, {"half": zoo.half(tmp_path)}),
        Requester(broker.port, "kills", "half", "asker").connected() as asker,
        Requester(broker.port, "kills", "half", "deaf", window=500).connected() as deaf,
    ):
        deaf.client.loop_stop()
        for _ in range(500):
            deaf.send(body, qos=0)
            deaf.client.loop_write()  # and never a read
        asker.ask(500, zoo.HALF)
        assert asker.outcomes == {"200": 500}
        assert deaf.outcomes.total() == 0


BURST, BURSTS_PER_S = 200, 20
"""Of requests at QoS 0: more than can be answered."""
ASKED, ASKED_PER_S = 200, 40
ANSWERED_WITHIN_S = 2.0


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@contextmanager
def flooding(port: int, topic: str, body: bytes) -> Iterator[None]:
    """Requests at QoS 0 whose answers nobody reads, until the end."""
    told = bytes((RESPONSE_TOPIC,)) + sized(b"edge/v1/_reply/nobody/1") + bytes((CORRELATION,)) + sized(b"1")
    packet = sized(topic.encode()) + variable_length(len(told)) + told + body
    burst = (b"\x30" + variable_length(len(packet)) + packet) * BURST
    connect = sized(b"MQTT") + b"\x05\x02\0\0\0" + sized(b"flood")
    over = threading.Event()

    def flood() -> None:
        while not over.wait(1 / BURSTS_PER_S):
            opened.sendall(burst)

    with socket.create_connection(("127.0.0.1", port), timeout=30) as opened:
        opened.sendall(b"\x10" + variable_length(len(connect)) + connect)
        assert opened.recv(1) == b"\x20"
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(30)


@pytest.mark.slow  # it wants the machine for itself
def test_a_flood_at_qos_0_loses_no_answer_at_qos_1_and_http_answers_meanwhile(mosquitto: str, tmp_path: Path) -> None:
    with (
        running_broker(mosquitto, tmp_path / "broker", more="log_type error") as broker,
        serving_at(broker, tmp_path, {"half": zoo.half(tmp_path)}) as server,
        Requester(broker.port, "kills", "half", "asker", expiry_s=60).connected() as asker,
        flooding(broker.port, "edge/v1/kills/infer/half", zoo.HALF),
    ):
        slowest_s = 0.0
        for _ in range(ASKED):
            asker.send(zoo.HALF, qos=1)
            began = time.monotonic()
            assert server.ask("/v2/health/live")[0] == 200
            slowest_s = max(slowest_s, time.monotonic() - began)
            time.sleep(1 / ASKED_PER_S)
        asker.ask(0, b"")  # returns when each has ended
        assert asker.outcomes.total() == ASKED
        assert set(asker.outcomes) <= {"200", "503"}, asker.outcomes
        assert slowest_s < ANSWERED_WITHIN_S
