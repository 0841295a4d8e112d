from __future__ import annotations

import json
import math

import pytest

from edge.cli.mqtt_ping import Trips, Trouble, hints, read_model, zeros
from edge.cli.mqtt_watch import Change, change_of, filters, watch
from edge.mqtt.message import Message


def trips(qos: int, *times_ms: float) -> Trips:
    return Trips(qos, len(times_ms), list(times_ms))


@pytest.mark.parametrize("slow_ms", [44.0, 92.0])
def test_a_qos_1_that_waits_for_delayed_acknowledgements_brings_the_hint(slow_ms: float) -> None:
    (hint,) = hints([trips(0, 0.4, 0.5, 0.6), trips(1, slow_ms, slow_ms, 0.5)])
    assert "set_tcp_nodelay true" in hint
    assert f"{slow_ms - 0.5:.0f} ms" in hint


@pytest.mark.parametrize(
    "seen",
    [
        [trips(0, 0.4), trips(1, 0.6)],
        [trips(0, 60.0), trips(1, 80.0)],  # a link that is as slow as that
        [trips(0, 0.4, 0.4, 0.4), trips(1, 0.5, 0.5, 44.0)],
        [trips(0), trips(1, 44.0)],
        [],
    ],
)
def test_nothing_is_said_of_what_is_not_the_brokers_doing(seen: list[Trips]) -> None:
    assert hints(seen) == []


def test_a_median_of_nothing_is_no_number() -> None:
    assert math.isnan(trips(0).median_ms)


def test_zeros_are_a_request_for_every_input_with_one_row() -> None:
    model = {
        "inputs": [
            {"name": "image", "shape": [-1, 2, 2], "datatype": "UINT8"},
            {"name": "mask", "shape": [1], "datatype": "BOOL"},
        ]
    }
    assert json.loads(zeros(model))["inputs"] == [
        {"name": "image", "shape": [1, 2, 2], "datatype": "UINT8", "data": [0, 0, 0, 0]},
        {"name": "mask", "shape": [1], "datatype": "BOOL", "data": [False]},
    ]


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "x"}],
        [{"name": "x", "shape": "a", "datatype": "FP32"}],
        [3],
        [{"shape": [1 << 40], "name": "x", "datatype": "FP32"}],
    ],
)
def test_a_model_that_is_described_in_a_strange_way_is_not_asked(inputs: list[object]) -> None:
    with pytest.raises(Trouble):
        zeros({"inputs": inputs})


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"inputs":3}', b"[" * 100_000])
def test_what_is_no_description_is_none(payload: bytes) -> None:
    assert read_model(payload) is None


def test_what_a_node_says_is_read_by_its_topic() -> None:
    def change(topic: str, payload: bytes) -> Change | None:
        return change_of("site/edge", Message(f"site/edge/v1/{topic}", payload))

    assert change("cam1/status", b"online") == Change("cam1", "status", "online")
    assert change("cam1/models/digits", b"") == Change("cam1", "model", None, "digits")
    assert change("cam1/info", b'{"state":"ready"}') == Change("cam1", "info", {"state": "ready"})
    for other in ("cam1/infer/digits", "_reply/x/status", "cam1/models/digits/x", "CAM/status", "cam1"):
        assert change(other, b"{}") is None
    assert change("cam1/info", b"x" * 70_000) is None


@pytest.mark.parametrize("payload", [b"\xff{", b'{"a": NaN}', b"[-Infinity]", b"1e999"])
def test_what_cannot_be_read_is_shown_as_what_it_is(payload: bytes) -> None:
    change = change_of("edge", Message("edge/v1/cam1/info", payload))
    assert change is not None
    assert "unreadable" in change.plain()["value"]


def test_numbers_that_a_node_says_are_read() -> None:
    change = change_of("edge", Message("edge/v1/cam1/info", b"[1.5, -2, 1e3]"))
    assert change is not None
    assert change.plain()["value"] == [1.5, -2, 1000.0]


def test_a_line_says_who_what_and_how() -> None:
    model = {"state": "failed", "version": "2", "device": "cpu", "error": "no room"}
    assert Change("cam1", "model", model, "digits").line() == "cam1  digits  failed, version 2, cpu, no room"
    assert Change("cam1", "model", None, "digits").line() == "cam1  digits  is gone"
    assert Change("cam1", "status", "offline").line() == "cam1  offline"
    info = {"state": "ready", "version": "0.2", "api": {"http": "http://10.0.0.7:8501"}}
    assert Change("cam1", "info", info).line() == "cam1  ready, edge 0.2, http://10.0.0.7:8501"


def test_all_nodes_are_watched_unless_one_is_named() -> None:
    assert filters("edge", "") == ["edge/v1/+/status", "edge/v1/+/info", "edge/v1/+/models/+"]
    assert filters("edge", "cam1")[0] == "edge/v1/cam1/status"
    with pytest.raises(ValueError, match="prefix"):
        filters("edge/#", "")


class FakeProbe:
    """Has what the broker kept, and then nothing more."""

    def __init__(self, *kept: tuple[str, bytes]) -> None:
        self._kept = [Message(topic, payload, 1, retain=True) for topic, payload in kept]
        self.subscribed: list[str] = []

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        self.subscribed.append(topic)

    async def next(self, timeout_s: float) -> Message:
        if not self._kept:
            raise TimeoutError
        return self._kept.pop(0)


async def test_what_the_broker_keeps_of_a_node_that_is_offline_is_said_to_be_so() -> None:
    model = json.dumps({"state": "ready", "version": 2}).encode()
    told: list[Change] = []
    probe = FakeProbe(
        ("edge/v1/cam1/status", b"offline"),
        ("edge/v1/cam2/status", b"online"),
        ("edge/v1/cam1/models/digits", model),
        ("edge/v1/cam2/models/digits", model),
        ("edge/v1/cam1/status", b"online"),
        ("edge/v1/cam1/models/digits", model),
    )
    await watch(probe, "edge", "", told.append, for_s=1.0)
    assert probe.subscribed[0] == "edge/v1/+/status", "else what a model says comes before what its node is"
    assert [each.line() for each in told] == [
        "cam1  offline",
        "cam2  online",
        "cam1  digits  ready, version 2  (cam1 is offline)",
        "cam2  digits  ready, version 2",
        "cam1  online",
        "cam1  digits  ready, version 2",
    ]
    assert [each.plain().get("offline") for each in told] == [None, None, True, None, None, None]
