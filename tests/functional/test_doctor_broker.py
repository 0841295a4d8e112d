"""The doctor at a real broker: what it finds, and what it says to do."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from edge.config.sections import Mqtt
from edge.doctor import broker as module
from edge.doctor.broker import check_broker, judge
from edge.doctor.finding import Level
from edge.doctor.round_trips import Trips
from tests.functional.broker import Broker, free_port, running_broker
from tests.functional.test_doctor import doctor


def section(port: int, **keys: Any) -> Mqtt:
    return Mqtt(host="127.0.0.1", port=port, node="cam1", **keys)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_broker_that_answers_is_told_with_its_round_trips(broker: Broker, protocol: Literal["auto", "3.1.1"]) -> None:
    found = check_broker(section(broker.port, protocol=protocol))
    assert found.level is Level.OK, found
    assert f"127.0.0.1:{broker.port}, MQTT {'5' if protocol == 'auto' else '3.1.1'}: connected in" in found.text
    assert "ms with QoS 1" in found.text


def test_the_command_asks_the_broker_of_the_configuration(broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n[http]\nport = 0\n[server]\nstate_dir = "{tmp_path}"\n'
    )
    assert doctor(file)["broker"]["level"] == "ok"
    broker.stop()
    assert doctor(file, code=1)["broker"]["level"] == "fail"


def test_the_servers_own_connection_is_left_alone(broker: Broker) -> None:
    with broker.peer("edge-cam1") as server:
        server.subscribe("edge/v1/cam1/infer/#")
        assert check_broker(section(broker.port)).level is Level.OK
        assert server.nothing_comes()
        server.publish("edge/v1/cam1/infer/x", b"still here")
        assert server.get().payload == b"still here"


def test_a_broker_that_waits_for_delayed_acknowledgements_is_told_the_setting(mosquitto: str, tmp_path: Path) -> None:
    with running_broker(mosquitto, tmp_path / "slow", more="set_tcp_nodelay false") as slow:
        found = check_broker(section(slow.port))
    assert (found.level, found.do) == (Level.WARN, "in mosquitto.conf: set_tcp_nodelay true"), found


def test_a_broker_that_is_not_there_fails() -> None:
    port = free_port()
    found = check_broker(section(port))
    assert (found.level, f"127.0.0.1:{port}: Connection refused" in found.text) == (Level.FAIL, True), found


def test_a_broker_that_wants_a_password_fails_with_what_to_look_at(mosquitto: str, tmp_path: Path) -> None:
    with running_broker(mosquitto, tmp_path / "shut", more="allow_anonymous false") as shut:
        found = check_broker(section(shut.port))
    assert (found.level, "mqtt.password_file" in found.do) == (Level.FAIL, True), found


def test_a_password_file_that_is_missing_fails_with_its_name(broker: Broker, tmp_path: Path) -> None:
    found = check_broker(section(broker.port, username="cam1", password_file=tmp_path / "gone"))
    assert (found.level, str(tmp_path / "gone") in found.text) == (Level.FAIL, True), found


def test_a_broker_that_forbids_the_topic_is_well_and_not_measured(mosquitto: str, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edge/v1/cam1/infer/#\n")
    acl.chmod(0o600)
    with running_broker(mosquitto, tmp_path / "strict", more=f"acl_file {acl}") as strict:
        found = check_broker(section(strict.port))
    assert found.level is Level.OK, found
    assert "was not measured" in found.text


def test_what_takes_connections_and_says_nothing_is_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        found = check_broker(section(mute.getsockname()[1]))
    assert (found.level, "no answer within 0.3 s" in found.text) == (Level.FAIL, True), found
    assert time.monotonic() - began < 5


def test_what_speaks_something_else_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            came, _ = web.accept()
            with came:
                came.recv(1000)
                came.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = check_broker(section(web.getsockname()[1]))
        thread.join(5)
    assert found.level is Level.FAIL, found


def test_tls_with_a_broker_that_has_none_fails(broker: Broker) -> None:
    found = check_broker(section(broker.port, tls=True))
    assert found.level is Level.FAIL, found


def test_only_what_the_second_quality_costs_more_is_a_hint() -> None:
    far = Trips("5", 0.2, {0: [0.2, 0.21, 0.3], 1: [0.2, 0.22, 0.2]})
    assert judge("far:1883", far).level is Level.OK
    near = Trips("5", 0.001, {0: [0.001] * 3, 1: [0.044] * 3})
    assert judge("near:1883", near).level is Level.WARN
