"""JSON values and types as TensorFlow Serving writes them into its messages.

Rule: a message stays short however large the value: writing stops at the first token that passes MAX_DEBUG_BYTES.

Source: `JsonValueToDebugString` of TensorFlow Serving's `util/json_tensor.cc`; RapidJSON 1.1.0 `prettywriter.h`.
"""

from __future__ import annotations

import math
from typing import Any

from edge.domain.tensors import DType

MAX_DEBUG_BYTES = 256

DTYPE_NAMES = {dtype: dtype.value for dtype in DType} | {
    DType.FLOAT16: "half",
    DType.FLOAT32: "float",
    DType.FLOAT64: "double",
}
_TYPE_NAMES: dict[type[Any], str] = {dict: "Object", list: "Array", str: "String"}
_ESCAPES = {ord(char): f"\\u{ord(char):04X}" for char in map(chr, range(0x20))} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def quote(text: str) -> str:
    """A JSON string, escaped as RapidJSON does: upper-case hex, everything above 0x1f as it is."""
    return f'"{text.translate(_ESCAPES)}"'


def type_name(value: Any) -> str:
    """RapidJSON's name for the value's type."""
    if value is None or value is True or value is False:
        return {None: "Null", True: "True", False: "False"}[value]
    return _TYPE_NAMES.get(type(value), "Number")


def debug(value: Any) -> str:
    """The value pretty-printed with 4 spaces, arrays on one line, cut off after some 256 bytes."""
    writer = _Writer()
    writer.write(value, 0)
    return "".join(writer.parts)


class _Writer:
    """`write` says whether to go on."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._size = 0

    def _token(self, text: str) -> bool:
        self._raw(text)
        return self._size < MAX_DEBUG_BYTES

    def _raw(self, text: str) -> None:
        self.parts.append(text)
        self._size += len(text.encode("utf-8", "surrogateescape"))

    def write(self, value: Any, indent: int) -> bool:
        if type(value) is dict:
            return self._object(value, indent)
        if type(value) is list:
            return self._array(value, indent)
        if type(value) is str:
            return self._token(quote(value))
        if type(value) is float:
            return math.isfinite(value) and self._token(_double(value))
        return self._token({None: "null", True: "true", False: "false"}[value] if _is_word(value) else str(value))

    def _array(self, values: list[Any], indent: int) -> bool:
        if not self._token("["):
            return False
        for index, value in enumerate(values):
            if index:
                self._raw(", ")
            if not self.write(value, indent):
                return False
        return self._token("]")

    def _object(self, members: dict[str, Any], indent: int) -> bool:
        if not self._token("{"):
            return False
        for index, (name, value) in enumerate(members.items()):
            self._raw((",\n" if index else "\n") + " " * (indent + 4))
            if not self._token(quote(name)):
                return False
            self._raw(": ")
            if not self.write(value, indent + 4):
                return False
        if members:
            self._raw("\n" + " " * indent)
        return self._token("}")


def _is_word(value: Any) -> bool:
    return value is None or value is True or value is False


def _double(value: float) -> str:
    """The shortest digits, in the notation of RapidJSON's `dtoa.h`: 1.0, 1e-7, 1.5e22."""
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"
