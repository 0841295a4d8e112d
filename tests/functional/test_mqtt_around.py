"""A real server on a real Mosquitto: commands, figures, mirrored results, Home Assistant's discovery, and ping."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.mqtt.topics import Tree
from tests.functional.broker import Broker, Peer, running_broker, user_properties
from tests.functional.server import Running, serving
from tests.functional.test_mqtt_ping import ping
from tests.functional.zoo import DIGITS

TREE = Tree("edge", "cam1")
REPLY = "edge/v1/_reply/me/1"
ZEROS = bytes(64)


@dataclass
class Scene:
    broker: Broker
    server: Running
    models: Path
    peer: Peer

    def command(self, name: str, body: object = None, *, topic: str = "", **properties: Any) -> dict[str, Any]:
        """The answer to a command that gives a Response Topic."""
        payload = json.dumps(body if body is not None else {})
        self.peer.publish(topic or TREE.command(name), payload, ResponseTopic=REPLY, CorrelationData=b"c", **properties)
        answer: dict[str, Any] = json.loads(self.peer.get_from(REPLY).payload)
        return answer

    def serves(self, name: str) -> bool:
        status, body = self.server.ask(f"/v1/models/{name}")
        return status == 200 and b"AVAILABLE" in body


@contextmanager
def scene(program: str, path: Path, **settings: object) -> Iterator[Scene]:
    """A server whose `[mqtt]` says so, with a digits model; it is online."""
    shutil.copytree(DIGITS / "2", path / "models" / "digits" / "2")
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(program, path / "broker"))
        peer = stack.enter_context(broker.peer())
        peer.subscribe("edge/v1/_reply/me/#", TREE.model("digits"), TREE.status)
        arguments: list[str | Path] = [path / "models"]
        for key, value in {"host": "127.0.0.1", "port": broker.port, "node": "cam1", **settings}.items():
            arguments += ["--set", f"mqtt.{key}={str(value).lower() if isinstance(value, bool) else value}"]
        server = stack.enter_context(serving(path, *arguments))
        peer.wait_for(TREE.model("digits"), lambda said: b'"ready"' in said)
        yield Scene(broker, server, path / "models", peer)


@pytest.fixture
def controlled(mosquitto: str, tmp_path: Path) -> Iterator[Scene]:
    with scene(mosquitto, tmp_path, model_control=True, groups="canary", fleet_jitter_s=0.2) as made:
        yield made


@pytest.fixture(scope="module")
def plain(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """As it is without further settings."""
    with scene(mosquitto, tmp_path_factory.mktemp("plain")) as made:
        yield made


def test_models_are_unloaded_and_loaded_by_command(controlled: Scene) -> None:
    answer = controlled.command("unload", {"model": "digits", "transaction": 1})
    assert answer == {"status": "ok", "data": {"model": "digits"}, "transaction": 1}
    assert not controlled.serves("digits")
    assert controlled.command("load", {"model": "digits"}, topic=TREE.fleet_command("canary", "load"))["status"] == "ok"
    assert controlled.serves("digits")
    assert "no such model" in controlled.command("load", {"model": "nope"})["error"]


def test_the_same_command_twice_is_done_once(controlled: Scene) -> None:
    for _ in range(2):
        controlled.command("unload", {"model": "digits"})
        controlled.server.json("/v2/repository/index", {})
    metrics = controlled.server.ask("/metrics")[1].decode()
    assert 'edge_mqtt_dropped_total{reason="duplicate"} 1.0' in metrics


def test_a_command_that_nobody_has_is_answered_and_the_agents_are_not(controlled: Scene) -> None:
    controlled.peer.publish(TREE.command("sync"), "{}", ResponseTopic=REPLY, CorrelationData=b"a")
    answer = controlled.command("nope")
    assert (answer["status"], answer["data"]) == ("error", {})
    assert answer["error"].startswith("nope: no such command; want load, ")


def test_a_retained_command_is_not_done_and_is_counted(controlled: Scene) -> None:
    controlled.peer.publish(TREE.command("unload"), b'{"model": "digits"}', retain=True)
    assert controlled.command("log-level", {"level": "info"})["status"] == "ok"
    assert controlled.serves("digits")
    assert 'edge_mqtt_dropped_total{reason="retained"} 1.0' in controlled.server.ask("/metrics")[1].decode()


def test_without_leave_models_stay_as_they_are(plain: Scene) -> None:
    assert "mqtt.model_control" in plain.command("unload", {"model": "digits"})["error"]
    assert plain.serves("digits")


def test_the_answer_to_who_names_no_topic_goes_below_the_command(plain: Scene) -> None:
    plain.peer.subscribe(TREE.command_result("log-level"))
    plain.peer.publish(TREE.command("log-level"), b'{"level": "debug"}')
    message = plain.peer.get_from(TREE.command_result("log-level"))
    assert json.loads(message.payload) == {"status": "ok", "data": {"level": "debug"}}
    assert user_properties(message)["status"] == "200"
    plain.peer.publish(TREE.command("log-level"), b'{"level": "loud"}')
    assert json.loads(plain.peer.get_from(TREE.command_result("log-level")).payload)["status"] == "error"


def test_a_reload_finds_what_was_put_there(plain: Scene) -> None:
    shutil.copytree(DIGITS / "2", plain.models / "more" / "1")
    plain.peer.subscribe(TREE.model("more"))
    assert plain.command("reload")["status"] == "ok"
    plain.peer.wait_for(TREE.model("more"), lambda said: b'"ready"' in said)


def test_a_groups_commands_that_are_the_agents_or_nobodys_are_not_even_subscribed(plain: Scene) -> None:
    for name in ("sync", "rollback", "pin", "unpin", "report", "nope"):
        assert plain.peer.publish(TREE.fleet_command("all", name), b"{}") == "No matching subscribers"


def test_a_command_in_3_1_1_is_answered_below_itself(mosquitto: str, tmp_path: Path) -> None:
    with scene(mosquitto, tmp_path, protocol="3.1.1") as made, made.broker.peer(version="3.1.1") as old:
        old.subscribe(TREE.command_result("reload"))
        old.publish(TREE.command("reload"), b'{"transaction": "a"}')
        assert json.loads(old.get().payload) == {"status": "ok", "data": {}, "transaction": "a"}


def test_figures_are_those_of_http(mosquitto: str, tmp_path: Path) -> None:
    with scene(mosquitto, tmp_path, stats_s=0.2) as made:
        made.peer.subscribe(TREE.stats)
        over_mqtt = json.loads(made.peer.get_from(TREE.stats).payload)
        over_http = made.server.json("/stats")
        assert over_mqtt["server"] == over_http["server"]
        assert [each["name"] for each in over_mqtt["models"]] == ["digits"]
        assert over_mqtt["models"][0].keys() == over_http["models"][0].keys()


def test_results_are_mirrored_and_who_wants_no_answer_is_served_too(mosquitto: str, tmp_path: Path) -> None:
    with scene(mosquitto, tmp_path, publish_results=True) as made:
        made.peer.subscribe(TREE.events("digits"))
        asked = f"{TREE.base}/infer/digits"
        kind = "application/octet-stream"
        made.peer.publish(asked, ZEROS, ContentType=kind)
        alone = made.peer.get_from(TREE.events("digits"))
        made.peer.publish(asked, ZEROS, ContentType=kind, ResponseTopic=REPLY, CorrelationData=b"c")
        got = {message.topic: message for message in (made.peer.get(), made.peer.get())}
        assert got.keys() == {REPLY, TREE.events("digits")}
        assert got[REPLY].payload == got[TREE.events("digits")].payload
        head = "inference-header-content-length"
        assert user_properties(got[REPLY])[head] == user_properties(got[TREE.events("digits")])[head]
        assert user_properties(alone)["version"] == "2"
        assert json.loads(alone.payload)["outputs"][0]["shape"] == [1, 10]


def test_without_leave_nobody_listens_to_results(plain: Scene) -> None:
    plain.peer.subscribe(TREE.events("digits"))
    plain.peer.publish(f"{TREE.base}/infer/digits", ZEROS, ContentType="application/octet-stream")
    assert plain.command("reload")["status"] == "ok"
    assert plain.peer.came.empty()
    assert 'edge_mqtt_dropped_total{reason="no_reply_to"} 1.0' in plain.server.ask("/metrics")[1].decode()


def test_home_assistant_is_told_and_told_again_when_it_comes_up(mosquitto: str, tmp_path: Path) -> None:
    topic = "homeassistant/device/edge_cam1/config"
    with scene(mosquitto, tmp_path, home_assistant=True) as made, made.broker.peer() as home:
        home.subscribe(topic)
        payload = home.wait_for(topic, lambda said: b"digits" in said)
        sensor = json.loads(payload)["components"]["digits"]
        home.subscribe(sensor["state_topic"])
        state = json.loads(home.wait_for(sensor["state_topic"], lambda said: b'"ready"' in said))["state"]
        assert state in sensor["options"]
        home.publish("homeassistant/status", b"online")
        assert home.get_from(topic, timeout_s=10.0).payload == payload


def test_a_running_server_is_pinged_with_and_without_a_run(plain: Scene) -> None:
    said = json.loads(ping(plain.broker.port, "--json").stdout)
    assert (said["status"], said["answer"], said["hints"]) == ("online", "404", [])
    said = json.loads(ping(plain.broker.port, "--json", "--model", "digits").stdout)
    assert said["answer"] == "200"
    assert all(len(each["times_ms"]) == 5 for each in said["trips"])
    assert ping(plain.broker.port, "--protocol", "3.1.1").returncode == 0


def test_a_server_that_has_stopped_is_offline(mosquitto: str, tmp_path: Path) -> None:
    with running_broker(mosquitto, tmp_path / "outer") as broker:
        arguments = ["--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}", "--set", "mqtt.node=cam1"]
        with broker.peer() as peer:
            peer.subscribe(TREE.status)
            with serving(tmp_path, DIGITS, *arguments):
                peer.wait_for(TREE.status, lambda said: said == b"online")
        done = ping(broker.port)
    assert done.returncode == 4
    assert "is offline" in done.stderr
