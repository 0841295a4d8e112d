"""Arrays → JSON text, flat.

Rule 1: a float is the shortest text that reads back as itself in its own type: 0.1, not 0.10000000149011612.
Rule 2: NaN, Infinity and -Infinity stand bare, as Triton writes them; readers of strict JSON ask for bytes.
"""

from __future__ import annotations

import json

import msgspec
import numpy as np
import numpy.typing as npt

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array

Doubles = npt.NDArray[np.float64]

_FEW, _MANY = 6, 9  # significant digits: so many any float32 keeps, and so many tell any two of them apart
_EXACT_POWERS = 22  # a double holds 10**22 exactly, and no higher power
_POWERS: Doubles = np.array([10.0**power for power in range(_EXACT_POWERS + 1)])
_ONE_BY_ONE = 40  # elements; up to here asking each for its text is quicker than the arithmetic on all


def data(array: Array) -> bytes:
    """`[1,2.5,true,"text"]`. Raises InvalidInput for BYTES that are no text."""
    kind = array.dtype.kind
    if kind == "O":
        return _texts(array)
    if kind != "f":
        return msgspec.json.encode(array.ravel().tolist())
    numbers = _shortest(array.ravel())
    if np.isfinite(numbers).all():
        return msgspec.json.encode(numbers.tolist())
    return json.dumps(numbers.tolist(), separators=(",", ":")).encode()


def _texts(array: Array) -> bytes:
    try:
        return msgspec.json.encode([item.decode() for item in array.ravel()])
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"output BYTES are not UTF-8 text ({error.reason} at byte {error.start}); ask for them with 'binary_data'"
        ) from None


def _shortest(flat: Array) -> Doubles:
    """Floats, `[n]` → the doubles whose shortest text is also theirs, `[n]`.

    An integer over a power of ten, both exact, is the double next to that decimal, and prints as it. So the fewest
    digits that read back are tried first; what is too small or too large for exact powers is asked for its text.
    """
    wide: Doubles = flat.astype(np.float64)
    if flat.dtype == np.float64:
        return wide
    if flat.dtype != np.float32 or flat.size <= _ONE_BY_ONE:
        return np.array([float(str(number)) for number in flat], np.float64)
    with np.errstate(all="ignore"):  # of 0, infinities and NaN there is no exponent: they stay as they are
        exponent = np.floor(np.log10(np.abs(wide)))
        easy = (exponent >= _MANY - 1 - _EXACT_POWERS) & (exponent < _EXACT_POWERS)
        for index in np.flatnonzero(~easy & np.isfinite(exponent)):
            wide[index] = float(str(flat[index]))
        left = np.flatnonzero(easy)
        for digits in range(_FEW, _MANY + 1):
            places = (digits - 1 - exponent[left]).astype(np.int64)
            up, down = _POWERS[np.maximum(places, 0)], _POWERS[np.maximum(-places, 0)]  # one of the two is 1
            short = np.rint(wide[left] * up / down) * down / up
            same = short.astype(np.float32) == flat[left]
            wide[left[same]] = short[same]
            left = left[~same]
    return wide
