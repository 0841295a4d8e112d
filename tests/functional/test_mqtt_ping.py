"""`edge mqtt ping` and `watch` at a real Mosquitto, with a responder that answers whatever it is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.functional.broker import Broker, free_port, running_broker
from tests.functional.passwords import write_passwords
from tests.functional.responder import TREE, responder


def edge(*arguments: str | float | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
    command = [sys.executable, "-m", "edge", "mqtt", *map(str, arguments), "--config", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def ping(port: int, *more: str | float | Path) -> subprocess.CompletedProcess[str]:
    return edge("ping", "cam1", "--host", "127.0.0.1", "--port", port, "--count", 5, "--timeout", 2, *more)


def test_a_server_that_answers_is_measured_with_both_qualities_of_service(broker: Broker) -> None:
    with responder(broker.port), broker.peer() as peer:
        peer.publish(TREE.status, b"online", retain=True)
        done = ping(broker.port, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["protocol"], said["hints"]) == ("online", "5", [])
    assert [(each["qos"], each["sent"], len(each["times_ms"])) for each in said["trips"]] == [(0, 5, 5), (1, 5, 5)]


def test_a_broker_that_delays_its_packets_brings_the_hint(mosquitto: str, tmp_path: Path) -> None:
    with running_broker(mosquitto, tmp_path, more="set_tcp_nodelay false") as broker, responder(broker.port):
        done = ping(broker.port)
    assert done.returncode == 0, done.stderr
    assert "set_tcp_nodelay true" in done.stdout


def test_where_nobody_listens_the_broker_says_so_at_once(broker: Broker) -> None:
    done = ping(broker.port)
    assert done.returncode == 4
    assert "no server listens at edge/v1/cam1" in done.stderr


def test_a_node_that_is_offline_is_not_asked(broker: Broker) -> None:
    with responder(broker.port), broker.peer() as peer:
        peer.publish(TREE.status, b"offline", retain=True)
        done = ping(broker.port)
    assert done.returncode == 4
    assert "edge/v1/cam1 is offline" in done.stderr


def test_who_listens_and_does_not_answer_is_not_waited_for_for_ever(broker: Broker) -> None:
    with broker.peer() as peer:
        peer.subscribe(TREE.infer_filter)
        done = ping(broker.port, "--json")
    assert done.returncode == 4
    assert "no answer from edge/v1/cam1 within 2 s" in json.loads(done.stdout)["error"]


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    done = ping(free_port())
    assert done.returncode == 4
    assert "no broker there: Connection refused" in done.stderr


def test_who_accepts_and_says_nothing_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = ping(silent.getsockname()[1])
    assert done.returncode == 4
    assert "is that an MQTT broker?" in done.stderr


def test_a_wrong_password_is_refused_credentials(mosquitto: str, tmp_path: Path) -> None:
    passwords, wrong = tmp_path / "passwords", tmp_path / "wrong"
    write_passwords(passwords, {"me": "right"})
    wrong.write_text("wrong\n")
    more = f"allow_anonymous false\npassword_file {passwords}"
    with running_broker(mosquitto, tmp_path / "broker", more=more) as broker:
        done = ping(broker.port, "--username", "me", "--password-file", wrong)
    assert done.returncode == 1
    assert "refuses the connection" in done.stderr
    assert "mqtt.password_file" in done.stderr


def test_who_may_not_publish_is_told_so(mosquitto: str, tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")
    more = f"acl_file {rules}"
    with running_broker(mosquitto, tmp_path / "broker", more=more) as broker, responder(broker.port):
        done = ping(broker.port)
    assert done.returncode == 1
    assert "may not publish to edge/v1/cam1/infer/edge-ping: Not authorized" in done.stderr


def test_with_a_model_its_inputs_are_sent(broker: Broker) -> None:
    described = {"state": "ready", "inputs": [{"name": "x", "shape": [-1, 2], "datatype": "FP32"}]}
    with responder(broker.port), broker.peer() as peer:
        peer.publish(TREE.model("digits"), json.dumps(described), retain=True)
        peer.subscribe(TREE.infer_filter)
        done = ping(broker.port, "--model", "digits")
        assert json.loads(peer.get().payload)["inputs"][0]["shape"] == [1, 2]
        other = ping(broker.port, "--model", "other")
    assert done.returncode == 0, done.stderr
    assert other.returncode == 3
    assert "no model 'other'" in other.stderr


def test_a_name_that_is_none_is_refused_before_anything_is_sent() -> None:
    assert edge("ping", "cam/1", "--host", "127.0.0.1").returncode == 2
    assert edge("ping", "cam1").returncode == 2


def test_nodes_are_watched_as_they_change(broker: Broker) -> None:
    command = [sys.executable, "-m", "edge", "mqtt", "watch", "--config", "/dev/null", "--json"]
    with broker.peer() as peer:
        peer.publish(TREE.status, b"online", retain=True)
        watcher = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(broker.port)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert watcher.stdout is not None

            def said() -> Any:
                assert watcher.stdout is not None
                return json.loads(watcher.stdout.readline())

            assert said() == {"node": "cam1", "what": "status", "value": "online"}
            peer.publish(TREE.status, b"online", retain=True)
            peer.publish(TREE.model("digits"), b'{"state":"ready"}', retain=True)
            assert said() == {"node": "cam1", "what": "model", "model": "digits", "value": {"state": "ready"}}
            peer.publish(TREE.model("digits"), b"", retain=True)
            assert said()["value"] is None
            broker.kill()
            assert watcher.wait(10) == 4
        finally:
            watcher.kill()
            watcher.communicate()


def test_watching_ends_when_its_time_is_over(broker: Broker) -> None:
    with broker.peer() as peer:
        peer.publish(TREE.status, b"online", retain=True)
        done = edge("watch", "--host", "127.0.0.1", "--port", broker.port, "--for", 0.5)
    assert (done.returncode, done.stdout) == (0, "cam1  online\n")
