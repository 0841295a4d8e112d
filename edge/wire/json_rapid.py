"""The JSON dialect that RapidJSON's iterative parser reads, with its texts and offsets for what it refuses.

More than RFC 8259: NaN, Infinity, Inf and their negatives; a byte order mark; text after the root value, unless the
document must be the `whole` body; bytes that are not UTF-8 (they come back as surrogate escapes). The first of equal
names wins, unless the `last_wins`. An integer beyond 64 bits is a double. Less than RFC 8259: no NUL outside a string,
and nothing nested deeper than MAX_DEPTH.

Rule 1: offsets are in bytes from the start of the body, the byte order mark included.
Rule 2: the cost is linear in the body, and recursion is bounded by MAX_DEPTH.
Rule 3: this is the slow way, for what a faster reader would not take; it decides what is right.

Source: RapidJSON 1.1.0, `reader.h` (IterativeParse with kParseNanAndInfFlag and kParseStopWhenDoneFlag).
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 64

EMPTY = "The document is empty."
ROOT_NOT_SINGULAR = "The document root must not be followed by other values."
VALUE_INVALID = "Invalid value."
MISS_NAME = "Missing a name for object member."
MISS_COLON = "Missing a colon after a name of object member."
MISS_COMMA_OR_BRACE = "Missing a comma or '}' after an object member."
MISS_COMMA_OR_BRACKET = "Missing a comma or ']' after an array element."
HEX_INVALID = "Incorrect hex digit after \\u escape in string."
SURROGATE_INVALID = "The surrogate pair in string is invalid."
ESCAPE_INVALID = "Invalid escape character in string."
MISS_QUOTE = "Missing a closing quotation mark in string."
ENCODING_INVALID = "Invalid encoding in string."
NUMBER_TOO_BIG = "Number too big to be stored in double."
MISS_FRACTION = "Miss fraction part in number."
MISS_EXPONENT = "Miss exponent in number."
TOO_DEEP = f"Nested deeper than {MAX_DEPTH} levels."

BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(rb"[ \t\n\r]*")
_INT = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(rb"\.[0-9]+")
_EXPONENT = re.compile(rb"[eE][+-]?[0-9]+")
# Numbers with a comma behind each: all that the standard library may read for us in one go.
_NUMBERS = re.compile(rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+[ \t\n\r]*+,[ \t\n\r]*+){1,4096}+")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {
    0x22: '"',
    0x2F: "/",
    0x5C: "\\",
    0x62: "\b",
    0x66: "\f",
    0x6E: "\n",
    0x72: "\r",
    0x74: "\t",
}  # fmt: skip
_WORDS: dict[int, tuple[bytes, Any]] = {0x6E: (b"null", None), 0x74: (b"true", True), 0x66: (b"false", False)}
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")


class JsonError(ValueError):
    """`text` is RapidJSON's, `offset` in bytes."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at offset: {offset}")
        self.text, self.offset = text, offset


def parse(body: bytes, *, whole: bool = False, last_wins: bool = False) -> Any:
    """The root value: dict, list, str, int (64 bits), float, bool or None. Raises JsonError."""
    return _Reader(body, last_wins).root(whole)


def has_extreme_number(text: bytes) -> bool:
    """Whether some number may be an integer beyond 64 bits or a double beyond the largest. Quick; may be a false alarm."""
    alike = text.translate(_ALIKE)
    return b"0" * 19 in alike or b"e000" in alike or b"e+000" in alike


class _Reader:
    def __init__(self, body: bytes, last_wins: bool) -> None:
        self._body = body
        self._last_wins = last_wins
        self._at = 0
        self._one_by_one_until = 0

    def root(self, whole: bool) -> Any:
        if self._body.startswith(BOM):
            self._at = len(BOM)
        if self._peek() == 0:
            self._fail(EMPTY)
        value = self._value(1)
        if whole:
            self._peek()
            if self._at < len(self._body):
                self._fail(ROOT_NOT_SINGULAR)
        return value

    def _peek(self) -> int:
        """The next byte that is not blank; 0 at the end."""
        space = _SPACE.match(self._body, self._at)
        assert space
        self._at = space.end()
        return self._here()

    def _here(self) -> int:
        return self._body[self._at] if self._at < len(self._body) else 0

    def _fail(self, text: str, offset: int | None = None) -> NoReturn:
        raise JsonError(text, self._at if offset is None else offset)

    def _value(self, depth: int) -> Any:
        """`_at` is on the value's first byte."""
        first = self._here()
        if first == 0x22:
            return self._string()
        if first == 0x5B or first == 0x7B:
            if depth > MAX_DEPTH:
                self._fail(TOO_DEEP)
            return self._array(depth) if first == 0x5B else self._object(depth)
        if first in _WORDS:
            return self._word(*_WORDS[first])
        return self._number()

    def _word(self, word: bytes, value: Any) -> Any:
        for expected in word:
            if self._here() != expected:
                self._fail(VALUE_INVALID)
            self._at += 1
        return value

    def _array(self, depth: int) -> list[Any]:
        self._at += 1
        values: list[Any] = []
        if self._peek() == 0x5D:
            self._at += 1
            return values
        while True:
            self._many_numbers(values)
            values.append(self._value(depth + 1))
            after = self._peek()
            if after == 0x5D:
                self._at += 1
                return values
            if after != 0x2C:
                self._fail(MISS_COMMA_OR_BRACKET)
            self._at += 1
            self._peek()

    def _many_numbers(self, values: list[Any]) -> None:
        while self._at >= self._one_by_one_until:
            run = _NUMBERS.match(self._body, self._at)
            if run is None:
                return
            if has_extreme_number(run[0]):
                self._one_by_one_until = run.end()
                return
            values += json.loads(b"[" + run[0].rstrip(b" \t\n\r,") + b"]")
            self._at = run.end()

    def _object(self, depth: int) -> dict[str, Any]:
        self._at += 1
        members: dict[str, Any] = {}
        if self._peek() == 0x7D:
            self._at += 1
            return members
        while True:
            if self._here() != 0x22:
                self._fail(MISS_NAME)
            name = self._string()
            if self._peek() != 0x3A:
                self._fail(MISS_COLON)
            self._at += 1
            self._peek()
            value = self._value(depth + 1)
            if self._last_wins or name not in members:
                members[name] = value
            after = self._peek()
            if after == 0x7D:
                self._at += 1
                return members
            if after != 0x2C:
                self._fail(MISS_COMMA_OR_BRACE)
            self._at += 1
            self._peek()

    def _string(self) -> str:
        self._at += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN.match(self._body, self._at)
            assert plain
            parts.append(plain[0].decode("utf-8", "surrogateescape"))
            self._at = plain.end()
            stop = self._here()
            if stop == 0x22:
                self._at += 1
                return "".join(parts)
            if stop == 0x5C:
                parts.append(self._escape())
            else:
                self._fail(ENCODING_INVALID if stop else MISS_QUOTE)

    def _escape(self) -> str:
        start = self._at
        self._at += 1
        letter = self._here()
        self._at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != 0x75:
            self._fail(ESCAPE_INVALID, start)
        unit = self._hex4(start)
        if 0xD800 <= unit <= 0xDFFF:
            unit = self._surrogates(unit, start)
        return chr(unit)

    def _surrogates(self, high: int, start: int) -> int:
        if high > 0xDBFF or self._body[self._at : self._at + 2] != b"\\u":
            self._fail(SURROGATE_INVALID, start)
        self._at += 2
        low = self._hex4(start)
        if not 0xDC00 <= low <= 0xDFFF:
            self._fail(SURROGATE_INVALID, start)
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)

    def _hex4(self, start: int) -> int:
        digits = _HEX4.match(self._body, self._at)
        if digits is None:
            self._fail(HEX_INVALID, start)
        self._at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> int | float:
        start = self._at
        whole = _INT.match(self._body, start)
        if whole is None:
            return self._non_finite()
        self._at = whole.end()
        self._part(b".", _FRACTION, MISS_FRACTION)
        self._part(b"eE", _EXPONENT, MISS_EXPONENT)
        text = self._body[start : self._at]
        # A number of more than 20 characters passes 64 bits, and int() has a bound of its own.
        if self._at == whole.end() and len(text) <= 20:
            integer = int(text)
            if -(2**63) <= integer < 2**64:
                return integer
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self._fail(NUMBER_TOO_BIG, start)
        return value

    def _part(self, openers: bytes, pattern: re.Pattern[bytes], missing: str) -> None:
        if self._here() == 0 or self._here() not in openers:
            return
        part = pattern.match(self._body, self._at)
        if part is None:
            signed = self._body[self._at + 1 : self._at + 2] in (b"+", b"-") and openers == b"eE"
            self._fail(missing, self._at + (2 if signed else 1))
        self._at = part.end()

    def _non_finite(self) -> float:
        negative = self._here() == 0x2D
        self._at += negative
        if self._here() == 0x4E:
            return float(self._word(b"NaN", float("nan")))
        if self._here() != 0x49:
            self._fail(VALUE_INVALID)
        self._word(b"Inf", None)
        if self._here() == 0x69:
            self._word(b"inity", None)
        return float("-inf") if negative else float("inf")
