"""Messages as the link hands them over and takes them.

Rule 1: nothing of paho is in here or comes out: its Properties cost 80 µs a message, these are packed in one go
(MQTT 5, section 2.2.2). Rule 2: what a broker sent is within the protocol's bounds, and nothing more is known of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

MAX_USER_PROPERTIES = 64
"""More than these are not looked at."""

PAYLOAD_FORMAT, EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, USER = 1, 2, 3, 8, 9, 38
"""The properties' identifiers (section 2.2.2.2)."""


@dataclass(frozen=True, slots=True)
class Properties:
    """Of a publication, in MQTT 5. `expiry_s`: whole seconds that are left. `text`: that the payload is UTF-8."""

    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    content_type: str | None = None
    user: tuple[tuple[str, str], ...] = ()
    text: bool = False

    def first(self, name: str) -> str | None:
        """The value of the first user property of that name."""
        for key, value in self.user:
            if key == name:
                return value
        return None

    def pack(self) -> bytes:
        """As they stand in a PUBLISH packet, their length first. Raises ValueError where one is too long."""
        parts = []
        if self.text:
            parts.append(bytes((PAYLOAD_FORMAT, 1)))
        if self.expiry_s is not None:
            parts.append(struct.pack("!BI", EXPIRY, min(max(self.expiry_s, 0), 0xFFFFFFFF)))
        if self.content_type is not None:
            parts.append(bytes((CONTENT_TYPE,)) + _sized(self.content_type.encode()))
        if self.response_topic is not None:
            parts.append(bytes((RESPONSE_TOPIC,)) + _sized(self.response_topic.encode()))
        if self.correlation is not None:
            parts.append(bytes((CORRELATION,)) + _sized(self.correlation))
        for key, value in self.user:
            parts += (_user_key(key), _sized(value.encode()))
        packed = b"".join(parts)
        return variable_length(len(packed)) + packed


NO_PROPERTIES = Properties()


@dataclass(slots=True)
class Message:
    """One that came. `received_at`: time.monotonic(). `handle`: what `Link.ack` knows it by."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = NO_PROPERTIES
    received_at: float = 0.0
    handle: Any = field(default=None, compare=False, repr=False)


@lru_cache(maxsize=256)
def _user_key(key: str) -> bytes:
    """Of a user property, as it begins. The names of those that are sent are few."""
    return bytes((USER,)) + _sized(key.encode())


def _sized(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise ValueError(f"want a property of at most 65535 bytes, got {len(data)}")
    return struct.pack("!H", len(data)) + data


def variable_length(number: int) -> bytes:
    """A Variable Byte Integer (MQTT 5, section 1.5.5)."""
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(out)
