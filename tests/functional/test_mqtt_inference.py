"""Inference over a real broker: every form of payload, in both versions of MQTT, answered as over HTTP."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.functional.asked import BASE, Asker, on_broker, until_ready
from tests.functional.broker import Broker, Peer, running_broker
from tests.functional.server import Running
from tests.functional.zoo import zoo

HEADER = "inference-header-content-length"
PIXELS = np.arange(64, dtype=np.int8).reshape(1, 8, 8, 1)


Pair = tuple[Running, Broker]
PAIRS = (("5", "5"), ("5", "3.1.1"), ("3.1.1", "3.1.1"))
"""What server and client speak. A server that speaks 3.1.1 sees no properties."""


@pytest.fixture(scope="module")
def pairs(mosquitto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """A server and its broker, by the version of MQTT that the server speaks."""
    with ExitStack() as stack:
        made: dict[str, Pair] = {}
        for version in ("5", "3.1.1"):
            directory = tmp_path_factory.mktemp("server")
            broker = stack.enter_context(running_broker(mosquitto, directory / "broker"))
            models = zoo(directory / "models")
            more = {"protocol": version, "max_payload_bytes": "100000"}
            server = stack.enter_context(on_broker(directory / "state", broker, models, **more))
            with broker.peer() as peer:
                for model in ("digits", "half", "sum", "pick"):
                    until_ready(peer, model)
            made[version] = server, broker
        yield made


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[1]} to {pair[0]}")
def asker(request: Any, pairs: dict[str, Pair]) -> Iterator[Asker]:
    spoken, asked = request.param
    with pairs[spoken][1].peer(version=asked) as peer:
        yield Asker(peer, server=pairs[spoken][0])


@pytest.fixture
def five(pairs: dict[str, Pair]) -> Iterator[Asker]:
    """Where both speak MQTT 5."""
    server, broker = pairs["5"]
    with broker.peer() as peer:
        yield Asker(peer, server=server)


def v1_body() -> bytes:
    return json.dumps({"instances": PIXELS.tolist()}).encode()


def v2_body(**more: Any) -> bytes:
    image = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "data": PIXELS.ravel().tolist()}
    return json.dumps({"inputs": [image], **more}).encode()


def binary_body(**more: Any) -> tuple[bytes, int]:
    image = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "INT8", "parameters": {"binary_data_size": 64}}
    head = json.dumps({"inputs": [image], **more}).encode()
    return head + PIXELS.tobytes(), len(head)


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray((np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("qos", [0, 1])
def test_tensorflow_servings_json_is_answered_as_over_http(asker: Asker, qos: int) -> None:
    columns = json.dumps({"inputs": {"image": PIXELS.tolist()}}).encode()
    for body in (v1_body(), columns):
        answer = asker.ask("digits", body, qos=qos, ContentType="application/json")
        assert (200, answer.payload) == asker.server.ask("/v1/models/digits:predict", body)
        assert (answer.qos, answer.error) == (qos, "")


@pytest.mark.parametrize("qos", [0, 1])
def test_the_open_inference_protocols_json_is_answered_as_over_http(asker: Asker, qos: int) -> None:
    for body in (v2_body(id="7"), v2_body(outputs=[{"name": "scores", "parameters": {"classification": 3}}])):
        answer = asker.ask("digits", body, qos=qos, ContentType="application/json; charset=utf-8")
        assert (200, answer.payload) == asker.server.ask("/v2/models/digits/infer", body)


def test_json_needs_no_content_type(asker: Asker) -> None:
    for body, path in ((v1_body(), "/v1/models/digits:predict"), (v2_body(), "/v2/models/digits/infer")):
        answer = asker.ask("digits", b" \n" + body + b"\n")
        assert (200, answer.payload) == asker.server.ask(path, body)


def test_a_version_in_the_topic_is_the_one_that_answers(asker: Asker) -> None:
    assert asker.ask("digits/versions/1", v2_body()).json["model_version"] == "1"
    answer = asker.ask("digits/versions/9", v2_body())
    assert answer.error in ("not_found", "error")
    assert (404, answer.payload) == asker.server.ask("/v2/models/digits/versions/9/infer", v2_body())


def test_a_tensors_elements_alone_are_enough_for_a_model_of_one_input(asker: Asker) -> None:
    answer = asker.ask("digits", PIXELS.tobytes())
    headers = {"Content-Type": "application/octet-stream", HEADER: "0"}
    status, same = asker.server.ask("/v2/models/digits/infer", PIXELS.tobytes(), headers)
    assert status == 200
    if asker.peer.version == "5":
        assert answer.payload == same
        assert answer.content_type == "application/octet-stream"
        assert answer.user is not None
        assert same.startswith(b"{")
        assert same[int(answer.user[HEADER]) :] == same[-10:]
    else:
        expected = asker.server.json("/v2/models/digits/infer", v2_body())
        assert answer.json == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_answered_as_over_http(asker: Asker, kind: str) -> None:
    body, media_type = picture(kind), f"image/{kind.lower()}"
    same = asker.server.ask("/v2/models/digits/infer", body, {"Content-Type": media_type})
    for content_type in (media_type, None):
        answer = asker.ask("digits", body, ContentType=content_type)
        assert (200, answer.payload) == same


def test_binary_tensors_are_answered_as_over_http(five: Asker) -> None:
    for more in ({}, {"parameters": {"binary_data_output": True}}):
        body, length = binary_body(**more)
        same = five.server.ask("/v2/models/digits/infer", body, {HEADER: str(length)})
        answer = five.ask("digits", body, UserProperty=[(HEADER, str(length))])
        assert (answer.status, answer.payload) == same


def test_several_inputs_as_bytes_are_told_apart_by_user_properties(five: Asker) -> None:
    one, other = np.array([1.5, 2.0], np.float32), np.array([0.25, 4.0], np.float32)
    named = [(k, v) for name in ("a", "b") for k, v in (("inputs", name), ("datatype", "FP32"), ("shape", "2"))]
    answer = five.ask(
        "sum",
        one.tobytes() + other.tobytes(),
        ContentType="application/octet-stream",
        UserProperty=[*named, ("accept", "application/json")],
    )
    assert answer.json["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [2], "data": [1.75, 6.0]}]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([("inputs", "a"), ("datatype", "FP32")], "once for each tensor"),
        ([("inputs", "a"), ("datatype", "FP99"), ("shape", "2")], "datatype: want one of"),
        ([("inputs", "a"), ("datatype", "FP32"), ("shape", "2x2")], "shape: want sizes"),
        ([("inputs", "a"), ("datatype", "FP32"), ("shape", ",".join(["9" * 12] * 32))], "to exceed maximum size"),
        ([("inputs", "z"), ("datatype", "FP32"), ("shape", "2")], "unexpected inference input 'z'"),
        ([("accept", "text/html")], "accept: want"),
        ([("params.classification", "0")], "params.classification: want a whole number"),
        ([("params.dequantize", "yes")], "params.dequantize: want true or false"),
        ([("version", "zero")], "version: want a whole number"),
        ([("version", "1"), ("label", "stable")], "got several"),
        ([("label", "stable")], "label 'stable'"),
        ([(HEADER, "many")], "Unable to parse"),
        ([(HEADER, "999")], "inference header size"),
    ],
)
def test_user_properties_that_cannot_be_are_told_so(five: Asker, said: list[tuple[str, str]], text: str) -> None:
    answer = five.ask(
        "half", np.array([1, 2], np.float32).tobytes(), UserProperty=said, ContentType="application/octet-stream"
    )
    assert (answer.status, answer.error) == (400, "invalid_input")
    assert text in answer.json["error"]


def test_user_properties_say_what_json_would(five: Asker) -> None:
    octets = {"ContentType": "application/octet-stream"}
    best = five.ask("digits", PIXELS.tobytes(), UserProperty=[("params.classification", "2")], **octets)
    same = five.server.json(
        "/v2/models/digits/infer", v2_body(outputs=[{"name": "scores", "parameters": {"classification": 2}}])
    )
    assert best.json == same
    floats = PIXELS.astype(np.float32)
    wish = [("params.dequantize", "true"), ("accept", "application/json")]
    answer = five.ask("digits", floats.tobytes(), UserProperty=wish, **octets)
    assert answer.json["outputs"][0]["datatype"] == "FP32"
    assert five.ask("digits", v2_body(), UserProperty=[("version", "1")]).user is not None
    assert (
        b"binary_data_size" in five.ask("digits", v2_body(), UserProperty=[("accept", octets["ContentType"])]).payload
    )


def test_an_answer_says_what_it_is(five: Asker) -> None:
    answer = five.ask("digits", v2_body(), MessageExpiryInterval=20)
    user = answer.user or {}
    assert (answer.status, answer.content_type, user["model"], user["version"]) == (
        200,
        "application/json",
        "digits",
        "1",
    )
    assert user["node"] == "cam-1"
    assert float(user["duration-ms"]) > 0
    assert float(user["queue-ms"]) >= 0
    assert answer.expiry_s in (19, 20)


WRONG: dict[str, tuple[str, bytes, str, int]] = {
    "no JSON": ("digits", b'{"instances": [', "/v1/models/digits:predict", 400),
    "a wrong shape, v1": ("digits", b'{"instances": [[1, 2]]}', "/v1/models/digits:predict", 400),
    "a wrong type, v2": (
        "digits",
        v2_body().replace(b"INT8", b"FP32"),
        "/v2/models/digits/infer",
        400,
    ),
    "an unknown input": ("digits", v2_body().replace(b'"image"', b'"imag"'), "/v2/models/digits/infer", 400),
    "no such model, v1": ("nobody", v1_body(), "/v1/models/nobody:predict", 404),
    "no such model, v2": ("nobody", v2_body(), "/v2/models/nobody/infer", 404),
    "fails in the run": ("pick", b'{"inputs": [99]}', "/v1/models/pick:predict", 500),
    "an empty object": ("digits", b"{}", "/v2/models/digits/infer", 400),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_error_is_told_in_the_words_and_with_the_status_of_http(asker: Asker, wrong: str) -> None:
    model, body, path, status = WRONG[wrong]
    answer = asker.ask(model, body, ContentType="application/json")
    assert (status, answer.payload) == asker.server.ask(path, body)
    if asker.peer.version == "5":
        assert answer.status == status
    else:
        assert answer.topic.endswith("/error")


def test_bytes_of_a_wrong_size_are_told_the_right_one(asker: Asker) -> None:
    answer = asker.ask("digits", b"\x01\x02\x03")
    assert "Expected 64, got 3" in answer.json["error"]


def test_a_payload_that_is_too_large_is_told_the_bound(asker: Asker) -> None:
    answer = asker.ask("digits", bytes(101_000))
    assert answer.json["error"] == "want a payload of at most 100000 bytes (mqtt.max_payload_bytes), got 101000"
    assert answer.status in (413, 0)


def test_a_content_type_of_another_kind_is_refused(five: Asker) -> None:
    answer = five.ask("digits", b"<html>", ContentType="text/html")
    assert (answer.status, answer.error) == (415, "unsupported_media")
    assert five.ask("digits", b"GIF89a", ContentType="image/gif").status == 415


def dropped(server: Running, reason: str) -> float:
    for line in server.ask("/metrics")[1].decode().splitlines():
        if line.startswith(f'edge_mqtt_dropped_total{{reason="{reason}"}}'):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (None, "no_reply_to"),
        ("edge/v1/cam-1/cmd/unload", "reply_refused"),
        ("edge/v1/_replies/x", "reply_refused"),
        ("$SYS/broker", "reply_refused"),
        ("edge/v1/_reply/" + "x" * 300, "reply_refused"),
        ("edge/v1/_reply/" + "/" * 230, "reply_refused"),  # this broker takes it here, and ends who publishes to it
    ],
)
def test_nothing_is_computed_for_whom_nobody_may_answer(five: Asker, topic: str | None, reason: str) -> None:
    before = dropped(five.server, reason)
    if topic is not None:
        five.peer.subscribe("edge/v1/cam-1/cmd/#")
    five.send("digits", v2_body(), ResponseTopic=topic)
    assert five.ask("digits", v2_body()).status == 200  # what came before has been dealt with
    assert dropped(five.server, reason) == before + 1
    assert five.peer.nothing_comes(0.05)


@pytest.mark.parametrize("wildcard", ["edge/v1/_reply/#", "edge/v1/_reply/+/x"])
def test_a_reply_topic_with_a_wildcard_is_refused_by_the_broker_or_by_the_server(five: Asker, wildcard: str) -> None:
    """This broker ends the connection of who sends one; others may not."""
    before = dropped(five.server, "reply_refused")
    with Peer(five.peer.port) as rude:
        rude.publish(f"{BASE}/infer/digits", v2_body(), qos=0, ResponseTopic=wildcard, CorrelationData=b"1")
        assert five.ask("digits", v2_body()).status == 200
        assert dropped(five.server, "reply_refused") in (before, before + 1)


@pytest.mark.parametrize("correlation", [None, b"x" * 65])
def test_a_request_without_usable_correlation_data_is_told_so(five: Asker, correlation: bytes | None) -> None:
    five.send("digits", v2_body(), CorrelationData=correlation)
    answer = five.answer()
    assert (answer.status, answer.correlation) == (400, b"")
    assert "want Correlation Data of 1 to 64 bytes" in answer.json["error"]


def test_a_retained_request_is_counted_and_not_answered(five: Asker) -> None:
    before = dropped(five.server, "retained")
    five.send("digits", v2_body(), retain=True)
    assert five.ask("digits", v2_body()).status == 200
    assert five.peer.nothing_comes(0.05)
    assert dropped(five.server, "retained") == before + 1
    five.peer.publish(f"{BASE}/infer/digits", b"", retain=True)


@pytest.mark.parametrize("tail", ["digits/versions/-1", "digits/versions/x", "../etc", "digits/req/a", "digits/x/y/z"])
def test_a_topic_of_no_known_form_is_counted(five: Asker, tail: str) -> None:
    before = dropped(five.server, "unknown_topic")
    five.send(tail, v2_body())
    assert five.ask("digits", v2_body()).status == 200
    assert dropped(five.server, "unknown_topic") == before + 1


def test_requests_are_counted_under_the_protocols_name(five: Asker) -> None:
    five.ask("half", b'{"instances": [1.0]}')
    five.ask("nobody", b'{"instances": [1.0]}')
    text = five.server.ask("/metrics")[1].decode()
    assert 'edge_requests_total{code="ok",model="half",protocol="mqtt",version="1"}' in text
    assert 'edge_requests_total{code="not_found",model="",protocol="mqtt",version=""}' in text
    assert "edge_mqtt_connected 1.0" in text


def test_answers_come_to_who_asked_and_in_any_number(five: Asker) -> None:
    numbers = [five.send("half", f'{{"instances": [{n}.0]}}'.encode()) for n in range(200)]
    answers = {answer.correlation: answer.json["predictions"] for answer in (five.answer() for _ in numbers)}
    assert answers == {number: [n / 2] for n, number in enumerate(numbers)}
