"""What comes: PUBLISH packets, read in one go.

paho reads them into its own Properties, which takes 60 µs for four of them, more than all else that it does for a message.
Rule 1: what the protocol does not allow raises, and so ends the connection; a topic that is no text is nobody's.
Rule 2: clients can send many properties, and large ones: what is read of them is bounded, and read in a time that grows with their length.
Source: MQTT Version 5.0, OASIS Standard, sections 3.3 and 2.2.2; 3.1.1, section 3.3.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from edge.mqtt.message import (
    CONTENT_TYPE,
    CORRELATION,
    EXPIRY,
    MAX_USER_PROPERTIES,
    NO_PROPERTIES,
    PAYLOAD_FORMAT,
    RESPONSE_TOPIC,
    USER,
    Message,
    Properties,
)

MAX_LENGTH_BYTES = 4
"""Of a Variable Byte Integer (section 1.5.5)."""
MAX_PROPERTIES_BYTES = 65536
"""Of one message. Where there are more, none is looked at: to read millions would take seconds."""

_SUBSCRIPTION, _TOPIC_ALIAS = 11, 35


class Malformed(ValueError):
    """A packet that no broker may send."""


def read_publish(head: int, body: bytes, *, five: bool) -> tuple[Message, int]:
    """The message, and its packet identifier. `head` is the packet's first byte, `five`: MQTT 5. Raises Malformed."""
    qos = head >> 1 & 3
    if qos > 1:
        raise Malformed(f"want QoS 0 or 1, as was subscribed, got {qos}")
    topic, at = _sized(body, 0, len(body))
    mid = 0
    if qos:
        mid, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        if not mid:
            raise Malformed("want a packet identifier, got none")
    properties = NO_PROPERTIES
    if five:
        properties, at = _properties(body, at)
    message = Message(
        topic=_topic(topic),
        payload=body[at:],
        qos=qos,
        retain=bool(head & 1),
        dup=bool(head & 8),
        properties=properties,
        received_at=monotonic(),
    )
    return message, mid


def _topic(topic: bytes) -> str:
    try:
        return topic.decode()
    except UnicodeDecodeError:
        return ""


def _properties(body: bytes, at: int) -> tuple[Properties, int]:
    """And where they end. Raises Malformed."""
    length, at = _variable(body, at)
    end = at + length
    if end > len(body):
        raise Malformed(f"want {length} bytes of properties, got {len(body) - at}")
    if not length or length > MAX_PROPERTIES_BYTES:
        return NO_PROPERTIES, end
    found: dict[int, Any] = {}
    user: list[tuple[str, str]] = []
    while at < end:
        kind = body[at]
        if kind in found:
            raise Malformed(f"property {kind}: want it once")
        if kind == USER:
            key, at = _sized(body, at + 1, end)
            value, at = _sized(body, at, end)
            if len(user) < MAX_USER_PROPERTIES:
                user.append((_text(key), _text(value)))
        elif kind == _SUBSCRIPTION:
            _, at = _variable(body, at + 1)
        else:
            found[kind], at = _value(kind, body, at + 1, end)
    if at != end:
        raise Malformed("want properties that end where they say")
    return (
        Properties(
            response_topic=found.get(RESPONSE_TOPIC),
            correlation=found.get(CORRELATION),
            expiry_s=found.get(EXPIRY),
            content_type=found.get(CONTENT_TYPE),
            user=tuple(user),
            text=found.get(PAYLOAD_FORMAT) == 1,
        ),
        end,
    )


def _value(kind: int, body: bytes, at: int, end: int) -> tuple[Any, int]:
    """Of a property that may be there once, and where it ends."""
    if kind in (RESPONSE_TOPIC, CONTENT_TYPE):
        text, at = _sized(body, at, end)
        return _text(text), at
    if kind == CORRELATION:
        return _sized(body, at, end)
    size = {PAYLOAD_FORMAT: 1, EXPIRY: 4, _TOPIC_ALIAS: 2}.get(kind)
    if size is None:
        raise Malformed(f"property {kind}: no such property of a publication")
    if at + size > end:
        raise Malformed(f"property {kind}: want {size} bytes, got {end - at}")
    return int.from_bytes(body[at : at + size], "big"), at + size


def _sized(body: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Bytes behind their length, and where they end."""
    start = at + 2
    after = start + int.from_bytes(body[at:start], "big")
    if start > end or after > end:
        raise Malformed(f"want {after - start} bytes behind their length, got {max(0, end - start)}")
    return body[start:after], after


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("want a property in UTF-8") from None


def _variable(body: bytes, at: int) -> tuple[int, int]:
    """A Variable Byte Integer, and where it ends (section 1.5.5)."""
    number = 0
    for digit in range(MAX_LENGTH_BYTES):
        if at >= len(body):
            break
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return number, at
    raise Malformed("want a Variable Byte Integer of at most 4 bytes")
