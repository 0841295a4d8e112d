"""Whether two versions gave the same answer. Pure.

| output | is the same where |
|---|---|
| scores of classes: as many as both versions have names, which are the same | the best class of the first is a best one of the second, in every row |
| floats | within atol + rtol·|first|, as `numpy.isclose` has it; NaN is NaN |
| anything else | every element is equal |
"""

from __future__ import annotations

import numpy as np

from edge.domain.errors import InvalidInput
from edge.domain.tensors import Array, Tensors


def difference(first: Tensors, second: Tensors, *, atol: float = 0.0, rtol: float = 0.0, classes: int = 0) -> str:
    """What differs first, in words; empty where nothing does. classes: how many names both have for classes, 0 for none.

    Raises InvalidInput for answers that cannot be compared: other tensors, or other types of elements.
    """
    if first.keys() != second.keys():
        raise InvalidInput(f"want outputs {', '.join(first)}, got {', '.join(second)}")
    for name, one in first.items():
        other = second[name]
        scores = classes > 1 and one.shape[-1:] == (classes,) and one.dtype.kind in "iuf" and other.dtype.kind in "iuf"
        if not scores and one.dtype != other.dtype:
            raise InvalidInput(f"{name}: want {one.dtype}, got {other.dtype}")
        if one.shape != other.shape:
            return f"{name}: {list(one.shape)} and {list(other.shape)}"
        if said := _classes(one, other) if scores else _elements(one, other, atol, rtol):
            return f"{name}: {said}"
    return ""


def _classes(one: Array, other: Array) -> str:
    """Of equal shapes."""
    ours, theirs = (each.reshape(-1, each.shape[-1]) for each in (one, other))
    best = ours.argmax(axis=-1)
    # Quantized scores often tie: any of the best will do.
    agree = theirs[np.arange(len(best)), best] == theirs.max(axis=-1)
    if agree.all():
        return ""
    row = int(np.argmin(agree))
    off = len(best) - int(agree.sum())
    return f"the best class differs in {off} of {len(best)} rows, first {best[row]} and {theirs[row].argmax()}"


def _elements(one: Array, other: Array, atol: float, rtol: float) -> str:
    if one.dtype.kind == "f":
        ours, theirs = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(all="ignore"):
            same = np.isclose(theirs, ours, rtol, atol, equal_nan=True)
    else:
        same = np.asarray(one == other)
    off = same.size - int(np.count_nonzero(same))
    if not off:
        return ""
    at = int(np.argmin(same.ravel()))
    shown = (repr(_short(array.ravel()[at])) for array in (one, other))
    return f"{off} of {same.size} elements differ, first {' and '.join(shown)}"


def _short(value: object) -> object:
    """A text may be of any length."""
    if isinstance(value, bytes | str):
        return value[:40]
    return value.item() if isinstance(value, np.generic) else value
