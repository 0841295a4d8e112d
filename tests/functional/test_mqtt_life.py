"""A server's life on a broker: birth, changes, trouble on either side, and the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import tflite_models
from tests.functional.asked import BASE, NODE, Asker, on_broker, until_ready
from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.repository import Repository, admin, reach
from tests.functional.server import Running
from tests.functional.zoo import half, looping, publish
from tests.waiting import until_blocking

HALF = b'{"instances": [1.0]}'
VERSIONS = ("5", "3.1.1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return half(tmp_path)


def info_state(peer: Peer, state: str) -> dict[str, Any]:
    payload = peer.wait_for(f"{BASE}/info", lambda body: json.loads(body)["state"] == state)
    found: dict[str, Any] = json.loads(payload)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_says_what_it_is_and_then_that_it_is_there_and_at_its_end_that_it_is_not(
    broker: Broker, model: Path, tmp_path: Path, version: str
) -> None:
    with broker.peer() as peer:
        peer.subscribe(f"{BASE}/#")
        with on_broker(tmp_path / "s", broker, model, protocol=version) as server:
            info = info_state(peer, "ready") if peer.get().topic == f"{BASE}/info" else {}
            assert info["api"] == {"http": server.url}
            assert (info["devices"], info["max_payload"], info["protocols"]) == (["cpu"], 4 << 20, ["v1", "v2"])
            told = json.loads(peer.wait_for(f"{BASE}/models/half", lambda body: b"ready" in body))
            assert (told["state"], told["version"], told["device"]) == ("ready", 1, "cpu")
            assert told["inputs"] == server.json("/v2/models/half")["inputs"]
            with broker.peer() as late:
                late.subscribe(f"{BASE}/#")
                retained = {late.get().topic: True for _ in range(3)}
                assert retained.keys() == {f"{BASE}/info", f"{BASE}/models/half", f"{BASE}/status"}
        seen: list[str | bytes] = []
        while not seen or seen[-1] != b"offline":
            message = peer.get()
            seen.append(bytes(message.payload) if message.topic.endswith("status") else message.topic)
        words = [message if isinstance(message, bytes) else message.rpartition("/")[2] for message in seen]
        assert words[-3:] == ["info", "info", b"offline"]  # draining, stopped


def test_status_is_said_after_everything_else(broker: Broker, model: Path, tmp_path: Path) -> None:
    with broker.peer() as peer:
        peer.subscribe(f"{BASE}/#")
        with on_broker(tmp_path / "s", broker, model):
            topics = [peer.get().topic]
            while topics[-1] != f"{BASE}/status":
                topics.append(peer.get().topic)
            assert topics[0] == f"{BASE}/info"


def test_the_broker_says_that_a_server_is_gone_which_was_killed(broker: Broker, model: Path, tmp_path: Path) -> None:
    with broker.peer() as peer, on_broker(tmp_path / "s", broker, model, protocol="3.1.1") as server:
        peer.subscribe(f"{BASE}/status")
        peer.wait_for(f"{BASE}/status", lambda word: word == b"online")
        server.kill()
        peer.wait_for(f"{BASE}/status", lambda word: word == b"offline")


def test_models_that_come_fail_and_go_are_followed(broker: Broker, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    repository.put("m", 1)
    with broker.peer() as peer, on_broker(tmp_path / "s", broker, repository.path) as server:
        told = until_ready(peer, "m", version=1)
        assert "error" not in told
        admin(server, "POST", "/v1/models/m/unload")
        peer.wait_for(f"{BASE}/models/m", lambda body: body == b"")
        admin(server, "POST", "/v1/models/m/load")
        until_ready(peer, "m", version=1)
        broken = repository.path / "m" / "2"
        broken.mkdir()
        (broken / "model.tflite").write_bytes(b"no model at all")
        reach(server, "m", v2="failed")
        payload = peer.wait_for(f"{BASE}/models/m", lambda body: b"error" in body)
        assert json.loads(payload)["error"].startswith("version 2: ")
        assert json.loads(payload)["version"] == 1


def test_a_model_whose_last_version_goes_leaves_the_broker(broker: Broker, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    for name in ("m", "n"):
        repository.put(name, 1)
    arguments = ("--set", f"repository.path={repository.path}")
    with broker.peer() as peer, on_broker(tmp_path / "s", broker, *arguments):
        until_ready(peer, "m")
        repository.drop("m", 1)
        peer.wait_for(f"{BASE}/models/m", lambda body: body == b"")
        until_ready(peer, "n")


def test_what_an_earlier_run_left_is_cleared(broker: Broker, model: Path, tmp_path: Path) -> None:
    with broker.peer() as peer:
        peer.publish(f"{BASE}/models/gone", b'{"state":"ready"}', retain=True)
        peer.subscribe(f"{BASE}/models/gone")
        assert peer.get().payload
        with on_broker(tmp_path / "s", broker, model):
            assert peer.get().payload == b""


def test_a_request_that_nobody_waits_for_any_more_is_not_answered(broker: Broker, tmp_path: Path) -> None:
    with on_broker(tmp_path / "s", broker, looping(tmp_path)) as server, broker.peer() as peer:
        until_ready(peer, "loop")
        asker = Asker(peer, server=server)
        late = asker.send("loop", b'{"inputs": [-1e7]}', MessageExpiryInterval=1)  # runs for 1.6 s
        behind = asker.send("loop", b'{"inputs": [-1.0]}')
        answer = asker.answer()
        assert (answer.correlation, answer.status) == (behind, 200)
        assert late != behind
        expired = 'edge_mqtt_dropped_total{reason="expired"} 1.0'
        until_blocking(lambda: expired in server.ask("/metrics")[1].decode())
        assert peer.nothing_comes(0.05)


def test_a_full_queue_is_told_at_once_and_when_to_come_back(broker: Broker, tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(f'[models.loop]\npath = "{looping(tmp_path)}"\nmax_queue = 1\ninstances = 1\n')
    with on_broker(tmp_path / "s", broker, "--config", config) as server, broker.peer() as peer:
        until_ready(peer, "loop")
        asker = Asker(peer, server=server)
        for _ in range(3):
            asker.send("loop", b'{"inputs": [-3e6]}', qos=0)
        answer = asker.answer()
        assert (answer.status, answer.error) == (503, "overloaded")
        assert int((answer.user or {})["retry-after-ms"]) > 0
        assert sorted(asker.answer().status for _ in range(2)) == [200, 200]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_whose_broker_is_restarted_answers_again_and_http_never_stopped(
    broker: Broker, model: Path, tmp_path: Path, version: str
) -> None:
    with on_broker(tmp_path / "s", broker, model, protocol=version) as server:
        for stop in (broker.stop, broker.kill):
            with broker.peer(version=version) as peer:
                until_ready(peer, "half")
                assert Asker(peer, server=server).ask("half", HALF).json == {"predictions": [0.5]}
            stop()
            assert server.json("/v1/models/half:predict", HALF) == {"predictions": [0.5]}
            broker.start()


def test_a_server_without_its_broker_serves_on(model: Path, tmp_path: Path, mosquitto: str) -> None:
    broker = Broker(mosquitto, tmp_path / "b")  # not started
    with on_broker(tmp_path / "s", broker, model) as server:
        assert server.json("/v1/models/half:predict", HALF) == {"predictions": [0.5]}
        assert "edge_mqtt_connected 0.0" in server.ask("/metrics")[1].decode()
        assert "no connection" in server.log.read_text()


def test_no_request_with_qos_1_is_lost_while_the_broker_restarts_in_good_order(
    mosquitto: str, model: Path, tmp_path: Path
) -> None:
    """The client's own link queues what it sends meanwhile; the broker keeps what it has."""
    with (
        running_broker(mosquitto, tmp_path / "b", persistence=True) as broker,
        on_broker(tmp_path / "s", broker, model) as server,
        broker.peer("client", expiry_s=600) as peer,
    ):
        until_ready(peer, "half")
        asker = Asker(peer, server=server)
        wanted = set()
        for number in range(300):
            if number == 100:
                broker.stop()
                threading.Timer(0.3, broker.start).start()
            wanted.add(str(number).encode())
            sent = {"ResponseTopic": "edge/v1/_reply/test/r", "CorrelationData": str(number).encode()}
            _publish_without_waiting(peer, f"{BASE}/infer/half", HALF, sent)
            time.sleep(0.002)
        answered: set[bytes] = set()
        while answered != wanted:
            answer = asker.answer()
            assert answer.status == 200
            answered.add(answer.correlation)


def _publish_without_waiting(peer: Peer, topic: str, payload: bytes, properties: dict[str, Any]) -> None:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    make: Any = Properties
    packed = make(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(packed, name, value)
    peer.client.publish(topic, payload, 1, False, packed)


def test_what_comes_while_the_server_restarts_is_answered_afterwards(
    broker: Broker, model: Path, tmp_path: Path
) -> None:
    with broker.peer() as peer:
        with on_broker(tmp_path / "s", broker, model) as server:
            until_ready(peer, "half")
            asker = Asker(peer, server=server)
        waiting = [asker.send("half", HALF) for _ in range(20)]
        with on_broker(tmp_path / "s", broker, model):
            answers = [asker.answer() for _ in waiting]
        assert {answer.correlation for answer in answers} == set(waiting)
        assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("version", VERSIONS)
def test_servers_share_what_is_asked_of_their_pool_and_one_that_goes_loses_nothing(
    broker: Broker, model: Path, tmp_path: Path, version: str
) -> None:
    pool = "edge/v1/_pool/all/infer/half"
    with broker.peer(version=version) as peer, ExitStack() as stack:
        servers = []
        for node in ("one", "two"):
            wanted = {"node": node, "pools": "all", "protocol": version}
            server = stack.enter_context(on_broker(tmp_path / node, broker, model, **wanted))
            until_ready(peer, "half", base=f"edge/v1/{node}")
            servers.append(server)
        asker = Asker(peer, server=servers[0])
        for number in range(60):
            asker.send(pool, HALF)
            if number == 30:
                servers[0].process.send_signal(signal.SIGTERM)
        answers = [asker.answer() for _ in range(60)]
        assert [answer.error for answer in answers] == [""] * 60
        assert all(answer.json == {"predictions": [0.5]} for answer in answers)
        assert all(counted(server) > 5 for server in servers[1:])
        servers[0].process.wait(20)
        assert asker.ask(pool, HALF).json == {"predictions": [0.5]}


def counted(server: Running) -> float:
    text = server.ask("/metrics")[1].decode()
    return float(next(line for line in text.splitlines() if 'code="ok"' in line and "mqtt" in line).split()[-1])


def test_a_pool_gets_nothing_for_a_model_that_does_not_answer(broker: Broker, model: Path, tmp_path: Path) -> None:
    with on_broker(tmp_path / "s", broker, model, pools="all"), broker.peer() as peer:
        until_ready(peer, "half")
        peer.publish_until_taken("edge/v1/_pool/all/infer/half", b"")
        assert peer.publish("edge/v1/_pool/all/infer/other", b"") == "No matching subscribers"
        assert peer.publish("edge/v1/_pool/others/infer/half", b"") == "No matching subscribers"


def test_two_servers_with_one_name_say_so_and_both_serve_over_http(broker: Broker, model: Path, tmp_path: Path) -> None:
    with (
        on_broker(tmp_path / "one", broker, model) as one,
        on_broker(tmp_path / "two", broker, model) as two,
    ):
        end = time.monotonic() + 20
        while f"another client comes as 'edge-{NODE}'" not in one.log.read_text() + two.log.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        for server in (one, two):
            assert server.json("/v1/models/half:predict", HALF) == {"predictions": [0.5]}


def test_a_swap_under_load_loses_no_request(broker: Broker, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    repository.put("m", 1)
    source = tmp_path / "second"
    source.mkdir()
    (source / "model.tflite").write_bytes(tflite_models.scaling(2.0))
    with on_broker(tmp_path / "s", broker, repository.path) as server, broker.peer() as peer:
        until_ready(peer, "m", version=1)
        asker = Asker(peer, server=server)
        publish(source, repository.path / "m" / "2")
        versions, after = [], 0
        end = time.monotonic() + 30
        while after < 50:
            assert time.monotonic() < end
            sent = [asker.send("m", HALF, qos=number % 2) for number in range(10)]
            answers = [asker.answer() for _ in sent]
            assert {answer.correlation for answer in answers} == set(sent)
            assert {answer.status for answer in answers} == {200}
            for answer in answers:
                version = (answer.user or {})["version"]
                assert answer.json == {"predictions": [float(version)]}
                versions.append(version)
            after = versions.count("2")
        assert versions.count("1") > 0


def test_a_server_without_mqtt_imports_nothing_of_it() -> None:
    check = "import sys; import edge.app; print([name for name in sys.modules if 'mqtt' in name])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
