"""Packets as paho writes them, and as nobody may."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from edge.mqtt.message import MAX_USER_PROPERTIES, NO_PROPERTIES, Properties, variable_length
from edge.mqtt.publications import Malformed, read_publish

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
AT_LEAST_ONCE = 0x32


def packet(topic: str = "a/b", properties: bytes = b"\0", payload: bytes = b"x", *, mid: int = 7) -> bytes:
    """What stands behind the fixed header. Without a `mid`, of QoS 0."""
    name = topic.encode()
    identifier = struct.pack("!H", mid) if mid else b""
    return struct.pack("!H", len(name)) + name + identifier + properties + payload


def listed(*each: bytes) -> bytes:
    """Properties behind their length."""
    return variable_length(len(b"".join(each))) + b"".join(each)


@given(
    st.builds(
        Properties,
        response_topic=st.none() | TEXT,
        correlation=st.none() | st.binary(max_size=64),
        expiry_s=st.none() | st.integers(0, 2**32 - 1),
        content_type=st.none() | TEXT,
        user=st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple),
        text=st.booleans(),
    ),
    st.binary(max_size=40),
)
def test_what_paho_writes_is_read_as_it_was_meant(properties: Properties, payload: bytes) -> None:
    make: Any = PahoProperties
    packed = make(PacketTypes.PUBLISH)
    for name, value in {
        "ResponseTopic": properties.response_topic,
        "CorrelationData": properties.correlation,
        "MessageExpiryInterval": properties.expiry_s,
        "ContentType": properties.content_type,
        "PayloadFormatIndicator": 1 if properties.text else None,
    }.items():
        if value is not None:
            setattr(packed, name, value)
    for pair in properties.user:
        packed.UserProperty = pair
    message, mid = read_publish(AT_LEAST_ONCE, packet("töpic", packed.pack(), payload), five=True)
    assert (message.topic, message.payload, message.properties, mid) == ("töpic", payload, properties, 7)


@pytest.mark.parametrize(
    ("head", "qos", "dup", "retain"),
    [(0x30, 0, False, False), (0x31, 0, False, True), (0x32, 1, False, False), (0x3B, 1, True, True)],
)
@pytest.mark.parametrize("five", [True, False])
def test_the_flags_are_those_of_the_header(head: int, qos: int, dup: bool, retain: bool, five: bool) -> None:
    body = packet(properties=b"\0" if five else b"", mid=7 if qos else 0)
    message, mid = read_publish(head, body, five=five)
    assert (message.qos, message.dup, message.retain, mid) == (qos, dup, retain, 7 if qos else 0)
    assert (message.topic, message.payload, message.properties) == ("a/b", b"x", NO_PROPERTIES)
    assert message.received_at > 0


def test_what_the_protocol_allows_and_nobody_here_asks_for_is_passed_over() -> None:
    more = listed(b"\x0b\x80\x01", b"\x0b\x05", b"\x23\0\x01", b"\x09\0\x01c")
    message, _ = read_publish(AT_LEAST_ONCE, packet(properties=more), five=True)
    assert message.properties == Properties(correlation=b"c")


def test_user_properties_are_bounded() -> None:
    many = listed(*(b"\x26\0\x01k\0\x01v",) * (MAX_USER_PROPERTIES + 1))
    message, _ = read_publish(AT_LEAST_ONCE, packet(properties=many), five=True)
    assert len(message.properties.user) == MAX_USER_PROPERTIES


def test_a_topic_that_is_no_text_is_nobodys() -> None:
    message, _ = read_publish(0x30, b"\0\x02\xff\xfe" + b"\0x", five=True)
    assert message.topic == ""


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        (0x34, packet(), "want QoS 0 or 1, as was subscribed, got 2"),
        (0x36, packet(), "got 3"),
        (0x32, b"\0\x03a/b\0\0\0x", "want a packet identifier"),
        (0x32, b"\0\x03a/b", "want a packet identifier"),
        (0x30, b"", "behind their length"),
        (0x30, b"\0\x09a/b", "want 9 bytes behind their length, got 3"),
        (0x30, packet(mid=0, properties=b"\x09", payload=b"x"), "want 9 bytes of properties, got 1"),
        (0x30, packet(mid=0, properties=b"\xff\xff\xff\xff\x01"), "Variable Byte Integer"),
        (0x30, packet(mid=0, properties=b"", payload=b""), "Variable Byte Integer"),
        (0x30, packet(mid=0, properties=listed(b"\x01\x01", b"\x01\x01")), "property 1: want it once"),
        (0x30, packet(mid=0, properties=listed(b"\x11\0\0\0\x01")), "property 17: no such property"),
        (0x30, packet(mid=0, properties=listed(b"\x02\0\0")), "property 2: want 4 bytes, got 2"),
        (0x30, packet(mid=0, properties=listed(b"\x03\0\x05a"), payload=b"xxxxx"), "want 5 bytes"),
        (0x30, packet(mid=0, properties=listed(b"\x03\0\x01\xff")), "want a property in UTF-8"),
        (0x30, packet(mid=0, properties=listed(b"\x26\0\x01k"), payload=b"\0\0"), "behind their length"),
        (0x30, packet(mid=0, properties=listed(b"\x0b\x80"), payload=b"\x01"), "end where they say"),
    ],
)
def test_what_no_broker_may_send_is_malformed(head: int, body: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        read_publish(head, body, five=True)


@given(st.integers(0, 15), st.binary(max_size=60), st.booleans())
def test_whatever_comes_is_a_message_or_malformed(flags: int, body: bytes, five: bool) -> None:
    try:
        message, _ = read_publish(0x30 | flags, body, five=five)
    except Malformed:
        return
    assert len(message.payload) <= len(body)


@given(st.binary(max_size=60))
def test_whatever_stands_for_properties_is_read_or_malformed(properties: bytes) -> None:
    try:
        read_publish(0x30, packet(mid=0, properties=listed(properties)), five=True)
    except Malformed:
        return
