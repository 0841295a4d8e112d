"""Writes flatbuffers, for tests that need a model of exactly one kind, or a broken one.

Rule 1: a table is a list of fields in the schema's order, None for one that is absent. Rule 2: everything lies after
what points to it, as the format demands. Source: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

SIZES = {"b": 1, "B": 1, "?": 1, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


@dataclass(frozen=True)
class Scalar:
    """One number; `code` is struct's letter for its type."""

    code: str
    value: float


@dataclass(frozen=True)
class Vector:
    """Numbers of one type, the first aligned to `align` bytes."""

    code: str
    values: Sequence[float] | bytes
    align: int = 4


@dataclass(frozen=True)
class Table:
    fields: Sequence[Field]


@dataclass(frozen=True)
class Again:
    """A vector that names one table many times: what no honest writer makes."""

    table: Table
    count: int


Thing = Scalar | Vector | Table | Again | Sequence[Table] | str
Field = Thing | None


def serialize(root: Table, identifier: bytes = b"TFL3") -> bytes:
    """The file: offset of the root, the identifier, the tables."""
    out = bytearray(4) + identifier
    _point(out, 0, _write(out, root))
    return bytes(out)


def _write(out: bytearray, what: Thing) -> int:
    """Appends one thing with all that it points to; its position."""
    if isinstance(what, Table):
        return _write_table(out, what)
    if isinstance(what, str):
        encoded = what.encode()
        return _write_bytes(out, len(encoded), encoded + b"\0", 4)
    if isinstance(what, Vector):
        body = (
            what.values
            if isinstance(what.values, bytes)
            else struct.pack(f"<{len(what.values)}{what.code}", *what.values)
        )
        return _write_bytes(out, len(what.values), body, max(what.align, SIZES[what.code]))
    if isinstance(what, Again):
        position = _write_bytes(out, what.count, bytes(4 * what.count), 4)
        named = _write(out, what.table)
        for index in range(what.count):
            _point(out, position + 4 + 4 * index, named)
        return position
    assert not isinstance(what, Scalar)
    position = _write_bytes(out, len(what), bytes(4 * len(what)), 4)
    for index, table in enumerate(what):
        slot = position + 4 + 4 * index
        _point(out, slot, _write(out, table))
    return position


def _write_bytes(out: bytearray, count: int, body: bytes, align: int) -> int:
    out += bytes(-(len(out) + 4) % align)
    position = len(out)
    out += struct.pack("<I", count) + body
    return position


def _write_table(out: bytearray, table: Table) -> int:
    """vtable, then the fields in their order, each aligned to its size (8 at most, so the table starts at 8 n + 4)."""
    offsets, size = [], 4
    for field in table.fields:
        width = SIZES[field.code] if isinstance(field, Scalar) else 4
        if field is None:
            offsets.append(0)
            continue
        size += -(size + 4) % width
        offsets.append(size)
        size += width
    vtable_size = 4 + 2 * len(offsets)
    out += bytes(-(len(out) + vtable_size - 4) % 8)
    vtable, position = len(out), len(out) + vtable_size
    out += struct.pack(f"<HH{len(offsets)}H", vtable_size, size, *offsets) + bytes(size)
    struct.pack_into("<i", out, position, position - vtable)
    for offset, field in zip(offsets, table.fields, strict=True):
        if isinstance(field, Scalar):
            struct.pack_into(f"<{field.code}", out, position + offset, field.value)
        elif field is not None:
            _point(out, position + offset, _write(out, field))
    return position


def _point(out: bytearray, slot: int, position: int) -> None:
    struct.pack_into("<I", out, slot, position - slot)
