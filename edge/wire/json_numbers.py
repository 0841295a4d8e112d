"""Arrays → JSON text: the shortest numbers that read back to the same value of the array's own type.

0.1 in float32 is written 0.1, not 0.10000000149011612. NaN and the infinities are bare words, as RapidJSON writes
and Python reads them. Strings are written byte for byte, whether they are UTF-8 or not.

Rule: what is written reads back equal: each number is verified, and the slow conversion takes those that fail.
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edge.domain.tensors import Array, Shape
from edge.wire.tfserving_debug import quote

FEW = 16
"""Up to here formatting one by one is quicker than a dozen array operations."""

encode = msgspec.json.Encoder().encode

_FLOAT16, _FLOAT32 = np.dtype("float16"), np.dtype("float32")
_SPECIAL = re.compile(rb'[\x00-\x1f"\\]')
_NAN, _INFINITY, _MINUS_INFINITY = map(msgspec.Raw, (b"NaN", b"Infinity", b"-Infinity"))


def array_text(array: Array) -> bytes:
    """An array of numbers, booleans or strings, of any shape; nested lists of its shape."""
    if array.dtype == _FLOAT32 and 0 < array.size <= FEW and array.shape[-1:] == (array.size,):
        numbers = ",".join(map(str, array.ravel()))
        if "n" not in numbers:  # nan, inf
            return f"{'[' * array.ndim}{numbers}{']' * array.ndim}".encode()
    return encode(tree(array))


def tree(array: Array, *, base64_strings: bool = False) -> Any:
    """What `encode` makes that text of: nested lists of Python numbers, or one for a rank of 0."""
    kind = array.dtype.kind
    if kind == "f":
        return _floats(_doubles(array))
    if kind != "O":
        return array.tolist()
    return _nested([_base64(text) if base64_strings else raw_string(text) for text in array.ravel()], array.shape)


def raw_string(text: bytes) -> msgspec.Raw:
    """A JSON string of these bytes."""
    if _SPECIAL.search(text) is None:
        return msgspec.Raw(b'"%b"' % text)
    return msgspec.Raw(quote(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))


def _base64(text: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(text).decode()}


def _doubles(array: Array) -> npt.NDArray[np.float64]:
    """Those whose shortest text is also the array's own."""
    if array.dtype == _FLOAT32:
        return shortest(array)
    if array.dtype == _FLOAT16:
        return np.array([float(str(number)) for number in array.ravel()], np.float64).reshape(array.shape)
    return array.astype(np.float64)


def _floats(values: npt.NDArray[np.float64]) -> Any:
    if np.isfinite(values).all():
        return values.tolist()
    words: list[Any] = values.ravel().tolist()
    for index in np.flatnonzero(~np.isfinite(values)):
        words[index] = _NAN if math.isnan(words[index]) else _INFINITY if words[index] > 0 else _MINUS_INFINITY
    return _nested(words, values.shape)


def _nested(flat: list[Any], shape: Shape) -> Any:
    # fromiter does not look into its elements; a Raw would pass for an array of bytes elsewhere.
    return np.fromiter(flat, object, len(flat)).reshape(shape).tolist()


def _scales() -> npt.NDArray[np.float64]:
    """By a float32's sign and exponent bits: the largest power of ten whose steps are wider than the numbers'.

    A decimal number of that many places is found again from the float32 nearest to it by rounding. NaN where a
    double cannot do the arithmetic exactly (below some 1e-13, from 2**24 on).
    """
    scales = np.full(256, np.nan)
    for bits in range(1, 255):
        places = math.floor((23 - (bits - 127)) * math.log10(2))
        if 0 <= places <= 20:
            scales[bits] = 10.0**places
    scales[0] = scales[255] = 1.0  # zeros; NaN and the infinities, which stay as they are
    return np.concatenate([scales, scales])


_SCALES = _scales()


def shortest(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The same numbers as doubles whose shortest decimal form is also the float32's, in the same shape."""
    flat = np.ascontiguousarray(array).ravel()
    exact = flat.astype(np.float64)
    scale = _SCALES.take(flat.view(np.uint32) >> np.uint32(23))
    found = exact
    pending = np.ones(flat.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        for _ in range(3):
            found = np.where(pending, np.rint(exact * scale) / scale, found)
            pending = found.astype(np.float32) != flat
            if not pending.any():
                return found.reshape(array.shape)
            scale *= 10
    for index in np.flatnonzero(pending & np.isfinite(flat)):
        found[index] = float(str(flat[index]))
    return np.where(np.isfinite(flat), found, exact).reshape(array.shape)
