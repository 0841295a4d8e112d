"""JSON that the fast decoder refused, read member by member, so that an error can name what is wrong.

Rule 1: NaN, Infinity and -Infinity are numbers; a number too large for a double is an error.
Rule 2: no text, however deep, breaks it; what is not UTF-8 is refused.
Rule 3: the words are those of Triton's JSON reader, which is RapidJSON. Offsets are in bytes.
"""

from __future__ import annotations

from typing import Any

from edge.domain.errors import InvalidInput
from edge.wire import json_exact
from edge.wire.json_rapid import ENCODING_INVALID

_NOTHING = object()


def parse(text: bytes) -> object:
    """UTF-8 JSON → objects; of equal names the last holds, as in the fast decoder. Raises InvalidInput."""
    try:
        text.decode()
        return json_exact.parse(text, whole=True, last_wins=True)
    except UnicodeDecodeError as error:
        raise _unreadable(ENCODING_INVALID, error.start) from None
    except json_exact.JsonError as error:
        raise _unreadable(error.text, error.offset) from None


class Members:
    """An object of a request, asked for its members. Every method raises InvalidInput, naming the member."""

    def __init__(self, value: object) -> None:
        # What is no object has no members: that is what the error will say.
        self._members: dict[str, Any] = value if isinstance(value, dict) else {}

    def has(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str, default: Any = None) -> Any:
        return self._members.get(name, default)

    def members(self, name: str) -> Members:
        """An optional object; without members where it is missing."""
        return Members(self._members.get(name))

    def string(self, name: str, default: str | None = None) -> str:
        value = self._members.get(name, _NOTHING if default is None else default)
        if not isinstance(value, str):
            raise _wrong(name, value, "string")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self._members.get(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, value, "boolean")
        return value

    def unsigned(self, name: str, limit: int, default: int | None = None) -> int:
        value = self._members.get(name, _NOTHING if default is None else default)
        return _unsigned(name, value, limit)

    def sizes(self, name: str, rank_limit: int, limit: int) -> tuple[int, ...]:
        return tuple(_unsigned(name, value, limit) for value in self._array(name, rank_limit))

    def objects(self, name: str, limit: int, optional: bool = False) -> list[Members]:
        """A list of objects, none where it is optional and missing."""
        if optional and name not in self._members:
            return []
        return [Members(item) for item in self._array(name, limit)]

    def _array(self, name: str, limit: int) -> list[Any]:
        value = self._members.get(name, _NOTHING)
        if not isinstance(value, list):
            raise _wrong(name, value, "array")
        if len(value) > limit:
            raise InvalidInput(f"Unable to parse '{name}': want at most {limit} elements, got {len(value)}")
        return value


def _unsigned(name: str, value: object, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, value, "unsigned-integer")
    if value > limit:
        raise InvalidInput(f"Unable to parse '{name}': want at most {limit}, got more")
    return value


def _wrong(name: str, value: object, want: str) -> InvalidInput:
    if value is _NOTHING:
        return InvalidInput(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")
    return InvalidInput(f"Unable to parse '{name}': attempt to access JSON non-{want} as {want}")


def _unreadable(text: str, at: int) -> InvalidInput:
    return InvalidInput(f"failed to parse the request JSON buffer: {text} at {at}")
