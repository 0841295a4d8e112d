from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

from edge.frontends.mqtt.home_assistant import HomeAssistant, Node, discovery
from edge.mqtt.message import Message
from edge.mqtt.topics import Tree
from tests.fakes.link import FakeLink
from tests.waiting import until

NODE = Node(Tree("edge", "cam1"), "1.2.3", "http://10.0.0.7:8501")

# As Home Assistant documents them for a device's payload, its device, its origin, and an MQTT sensor.
ROOT = {"device", "origin", "components", "availability_topic", "qos", "state_topic", "command_topic", "encoding"}
DEVICE = {
    "identifiers",
    "name",
    "manufacturer",
    "model",
    "sw_version",
    "configuration_url",
    "connections",
    "hw_version",
}
ORIGIN = {"name", "sw_version", "support_url"}
SENSOR = {
    *("platform", "unique_id", "name", "icon", "device_class", "options", "state_topic", "value_template"),
    *("json_attributes_topic", "json_attributes_template", "entity_category", "expire_after", "unit_of_measurement"),
}


def payload(*models: str, gone: tuple[str, ...] = ()) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(discovery(NODE, models, gone))
    return read


def test_every_key_is_one_that_home_assistant_documents_and_what_it_requires_is_there() -> None:
    said = payload("digits", "a.b")
    assert said.keys() <= ROOT
    assert {"device", "origin", "components"} <= said.keys()
    assert said["device"].keys() <= DEVICE
    assert said["device"]["identifiers"] == ["edge_cam1"]
    assert said["device"]["configuration_url"] == "http://10.0.0.7:8501"
    assert "name" in said["origin"]
    assert said["origin"].keys() <= ORIGIN
    for sensor in said["components"].values():
        assert sensor.keys() <= SENSOR
        assert {"platform", "unique_id", "state_topic"} <= sensor.keys()
        assert sensor["platform"] == "sensor"
        assert sensor["device_class"] == "enum"


def test_a_sensor_reads_its_models_topic_and_availability_is_the_status() -> None:
    said = payload("digits")
    assert said["availability_topic"] == "edge/v1/cam1/status"
    (sensor,) = said["components"].values()
    assert sensor["state_topic"] == sensor["json_attributes_topic"] == "edge/v1/cam1/models/digits"
    assert "value_json.state" in sensor["value_template"]


def test_topic_and_component_names_have_only_letters_that_home_assistant_takes() -> None:
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", NODE.topic)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in payload("a.b", "digits")["components"])


def test_models_whose_names_differ_in_a_dot_have_sensors_of_their_own() -> None:
    said = payload("a.b", "a_b")
    assert len({each["unique_id"] for each in said["components"].values()}) == 2


def test_a_model_that_is_gone_is_named_with_its_platform_only() -> None:
    assert payload("digits", gone=("old",))["components"]["old"] == {"platform": "sensor"}


def test_it_is_told_once_for_each_change_and_what_went_is_taken_away_first() -> None:
    link = FakeLink()
    told = HomeAssistant(link, NODE)
    for models in ({"a", "b"}, {"b", "a"}, {"b"}):
        told.models(models)
    assert [sorted(json.loads(each.payload)["components"]) for each in link.published] == [
        ["a", "b"],
        ["a", "b"],
        ["b"],
    ]
    assert json.loads(link.published[1].payload)["components"]["a"] == {"platform": "sensor"}
    assert all(each.retain and each.qos == 1 and each.topic == NODE.topic for each in link.published)


def test_nothing_is_told_before_the_models_are_known() -> None:
    link = FakeLink()
    HomeAssistant(link, NODE).tell()
    assert link.published == []


async def test_when_home_assistant_comes_up_it_is_told_again_once_after_a_random_time() -> None:
    link = FakeLink()
    told = HomeAssistant(link, NODE, spread_s=0.1, chance=random.Random(2))
    wait = random.Random(2).uniform(0.0, 0.1)
    told.models(["a"])
    loop = asyncio.get_running_loop()
    began = loop.time()
    for payload in (b"offline", b"online", b"online"):
        told.handle(Message("homeassistant/status", payload, 1))
    assert len(link.acked) == 3
    await until(lambda: len(link.published) == 2)
    assert loop.time() - began >= wait - 0.005
    await asyncio.sleep(0.1)
    assert len(link.published) == 2
    assert link.published[0].payload == link.published[1].payload


async def test_nothing_is_told_after_the_end() -> None:
    link = FakeLink()
    told = HomeAssistant(link, NODE, spread_s=0.01)
    told.models(["a"])
    told.handle(Message("homeassistant/status", b"online"))
    told.close()
    await asyncio.sleep(0.05)
    assert len(link.published) == 1
