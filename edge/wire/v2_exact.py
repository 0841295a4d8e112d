"""JSON that the fast decoder refused, read member by member, so that an error can name what is wrong.

Rule 1: NaN, Infinity and -Infinity are numbers; a number too large for a double is an error.
Rule 2: nothing here recurses on what a client sent, and no text, however deep, breaks it.
Rule 3: the words are those of Triton's JSON reader, RapidJSON. Offsets are in characters, and within a token may be
its beginning where RapidJSON's would be the place in it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from edge.domain.errors import InvalidInput

MAX_SCANNED_CHARS = 1 << 20  # to tell a list from an object in an error's text

_NOTHING = object()
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_EMPTY = "The document is empty."
_WORDS = {
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting value": "Invalid value.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}


def parse(text: bytes) -> object:
    """UTF-8 JSON → objects. Raises InvalidInput."""
    try:
        return json.loads(text.decode("utf-8-sig"), parse_float=_finite)
    except UnicodeDecodeError as error:
        raise _unreadable("Invalid encoding in string.", error.start) from None
    except json.JSONDecodeError as error:
        raise _unreadable(_word(error), error.pos) from None
    except RecursionError:
        raise _unreadable("Too deeply nested.", 0) from None
    except OverflowError:
        raise _unreadable("Number too big to be stored in double.", 0) from None
    except ValueError:  # an integer of thousands of digits
        raise _unreadable("Number too big to be stored in double.", 0) from None


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
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _unreadable("The surrogate pair in string is invalid.", 0) from None
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


def _word(error: json.JSONDecodeError) -> str:
    if not error.doc.strip(" \t\r\n"):
        return _EMPTY
    if error.msg == "Expecting ',' delimiter":
        return _missing_comma(error.doc, error.pos)
    return _WORDS.get(error.msg.removesuffix(": "), error.msg + ".")


def _missing_comma(text: str, at: int) -> str:
    """What should have come at `at` depends on what is open there."""
    opened: list[str] = []
    for mark in _MARKS.finditer(text, max(0, at - MAX_SCANNED_CHARS), at):
        if mark[0] in "[{":
            opened.append(mark[0])
        elif mark[0] in "]}" and opened:
            opened.pop()
    if opened and opened[-1] == "{":
        return "Missing a comma or '}' after an object member."
    return "Missing a comma or ']' after an array element."


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError(text)
    return value
