"""What this node is called where nobody says it, and that everybody calls it so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge.config import node
from edge.config.node import own_node_name
from edge.config.sections import Mqtt
from edge.doctor.broker import check_broker
from edge.doctor.round_trips import Trips
from edge.domain.node import node_name
from edge.mqtt.settings import LinkSettings


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "machine-id"
    monkeypatch.setattr(socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setattr(node, "MACHINE_ID", file)
    return file


def test_a_host_with_the_name_of_its_image_is_told_apart_by_its_machines_id(machine_id: Path) -> None:
    machine_id.write_text("aaaa\n")
    assert own_node_name() == node_name("raspberrypi", "aaaa") != "raspberrypi"


def test_without_a_machines_id_the_host_alone_names_it(machine_id: Path) -> None:
    assert own_node_name() == "raspberrypi"
    machine_id.write_bytes(b"\xff\xfe")
    assert own_node_name() == "raspberrypi"


def test_the_doctor_looks_below_the_topics_that_the_server_has(machine_id: Path) -> None:
    machine_id.write_text("aaaa\n")
    asked = []

    def measured(settings: LinkSettings, topic: str) -> Trips:
        asked.append(topic)
        return Trips(kept="not now")

    check_broker(Mqtt(host="broker"), measured)
    assert asked == [f"edge/v1/{own_node_name()}/doctor"]
