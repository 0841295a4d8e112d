"""`deploy/mosquitto` as it is shipped, in a real Mosquitto: who is let in, and who may say what to whom."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client

from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.passwords import write_passwords

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"
USERS = ("cam1", "cam2", "app", "app2", "operator")


@pytest.fixture(scope="module")
def broker(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    directory = tmp_path_factory.mktemp("deploy")
    passwords = directory / "passwd"
    write_passwords(passwords, {user: f"of {user}" for user in USERS})
    rules = directory / "acl"
    text = (DEPLOY / "edge.acl").read_text()
    rules.write_text(text + text.partition("user app\n")[2].partition("\n\n")[0].join(("\nuser app2\n", "\n")))
    shipped = (DEPLOY / "edge.conf").read_text()
    for path, stand_in in (("/etc/mosquitto/edge.passwd", passwords), ("/etc/mosquitto/edge.acl", rules)):
        assert path in shipped
        shipped = shipped.replace(path, str(stand_in))
    mine = re.sub(r"(?m)^(listener|persistence) .*$", "", shipped)  # the port and the place are the test's own
    with running_broker(mosquitto, directory / "broker", more=mine) as broker:
        yield broker


def peer(broker: Broker, user: str, name: str = "") -> Peer:
    def log_in(client: Client) -> None:
        client.username_pw_set(user, f"of {user}")

    return broker.peer(name, set_up=log_in)


@pytest.mark.parametrize(("user", "password"), [("", ""), ("app", "wrong"), ("nobody", "of nobody")])
def test_who_has_no_password_is_not_let_in(broker: Broker, mosquitto_pub: str, user: str, password: str) -> None:
    command = [mosquitto_pub, "-V", "5", "-p", str(broker.port), "-t", "edge/v1/cam1/infer/m", "-m", "x"]
    done = subprocess.run(
        [*command, *(["-u", user, "-P", password] if user else [])], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Not authorized" in done.stderr


MAY_WRITE = [
    ("cam1", "edge/v1/cam1/status"),
    ("cam1", "edge/v1/cam1/models/digits"),
    ("cam1", "edge/v1/cam1/cmd/load/result"),
    ("cam1", "edge/v1/_reply/app/1"),
    ("cam1", "homeassistant/device/edge_cam1/config"),
    ("app", "edge/v1/cam1/infer/digits"),
    ("app", "edge/v1/cam1/infer/digits/versions/2/req/app/1"),
    ("app", "edge/v1/_pool/line1/infer/digits"),
    ("operator", "edge/v1/cam1/cmd/load"),
    ("operator", "edge/v1/_fleet/all/cmd/reload"),
    ("operator", "edge/v1/_fleet/all/desired"),
]
MAY_NOT_WRITE = [
    ("app", "edge/v1/cam1/cmd/unload"),
    ("app", "edge/v1/_fleet/all/cmd/unload"),
    ("app", "edge/v1/_fleet/all/desired"),
    ("app", "edge/v1/cam1/desired"),
    ("app", "edge/v1/cam1/status"),
    ("app", "edge/v1/cam1/models/digits"),
    ("app", "homeassistant/device/edge_cam1/config"),
    ("cam1", "edge/v1/cam2/status"),
    ("cam1", "edge/v1/cam2/cmd/unload"),
    ("cam1", "edge/v1/cam2/infer/digits"),
    ("cam1", "edge/v1/_fleet/all/cmd/unload"),
    ("cam1", "homeassistant/device/edge_cam2/config"),
    ("cam1", "homeassistant/status"),
    ("operator", "edge/v1/cam1/status"),
    ("operator", "edge/v1/cam1/reported"),
]


@pytest.mark.parametrize(("user", "topic"), MAY_WRITE)
def test_who_is_meant_to_write_may(broker: Broker, user: str, topic: str) -> None:
    with peer(broker, user) as writer:
        assert "Not authorized" not in writer.publish(topic, b"x")


@pytest.mark.parametrize(("user", "topic"), MAY_NOT_WRITE)
def test_who_is_not_meant_to_write_is_refused(broker: Broker, user: str, topic: str) -> None:
    with peer(broker, user) as writer:
        assert writer.publish(topic, b"x") == "Not authorized"


READERS = [
    ("cam1", "edge/v1/cam1/infer/#", "app", "edge/v1/cam1/infer/digits", True),
    ("cam1", "$share/line1/edge/v1/_pool/line1/infer/digits/#", "app", "edge/v1/_pool/line1/infer/digits", True),
    ("cam1", "edge/v1/_fleet/all/cmd/reload", "operator", "edge/v1/_fleet/all/cmd/reload", True),
    ("cam1", "edge/v1/cam1/cmd/load", "operator", "edge/v1/cam1/cmd/load", True),
    ("app", "edge/v1/_reply/app/#", "cam1", "edge/v1/_reply/app/1", True),
    ("app", "edge/v1/+/status", "cam1", "edge/v1/cam1/status", True),
    ("operator", "edge/v1/+/cmd/+/result", "cam1", "edge/v1/cam1/cmd/load/result", True),
    ("app2", "edge/v1/_reply/#", "cam1", "edge/v1/_reply/app/1", False),
    ("app2", "edge/v1/_reply/app/#", "cam1", "edge/v1/_reply/app/1", False),
    ("app", "edge/v1/#", "app2", "edge/v1/cam1/infer/digits", False),
    ("cam2", "edge/v1/cam1/#", "app", "edge/v1/cam1/infer/digits", False),
    ("app", "#", "operator", "edge/v1/cam1/cmd/load", False),
]


@pytest.mark.parametrize(("reader", "topics", "writer", "topic", "gets_it"), READERS)
def test_who_reads_what(broker: Broker, reader: str, topics: str, writer: str, topic: str, gets_it: bool) -> None:
    """A client id is no proof of anything: each reader has the writer's user for its own."""
    own = f"edge/v1/_reply/{reader}/end"
    with (
        peer(broker, reader, name=f"called-{writer}") as one,
        peer(broker, writer) as other,
        peer(broker, "cam1") as end,
    ):
        one.subscribe(topics, own)
        other.publish(topic, b"x")
        end.publish(own, b"end")  # behind what went before, so that nothing need be waited for
        came = one.get()
        assert (came.payload == b"x") is gets_it
