"""Where a .tflite file keeps its numbers: weights, and the scales and zero points of what is quantized.

Rule 1: the file is hostile: every position is checked against its end, and the work is bounded by MAX_ITEMS. Rule 2: NotAModel
is all that comes out; a file that is none, or is damaged, is one that cannot be aligned, which is no error of the publisher's.
Rule 3: numbers are found, never looked at.

Sources: https://flatbuffers.dev/internals/ for the encoding, and the published schema for the fields' numbers:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

IDENTIFIER = b"TFL3"
MAX_ITEMS = 200_000
"""Tables that are visited in one file."""
MAX_REGIONS = 1 << 14
"""Of more than these, the largest are taken: what is left out is found by search, or sent."""
MAX_NAME_BYTES = 4096
WEIGHTS, SCALES, ZERO_POINTS = "weights", "scales", "zero points"


class NotAModel(Exception):
    """Not a TFLite model, or one that is damaged."""


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes of the file from `start` on, which belong to the tensor `name`."""

    name: str
    what: str
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def regions(data: bytes) -> list[Region]:
    """In the file's order, and no byte in two of them. Raises NotAModel."""
    if data[4:8] != IDENTIFIER:
        raise NotAModel(f"want {IDENTIFIER!r} at byte 4, got {data[4:8]!r}")
    found = sorted(_all(_Reader(data)), key=lambda each: (-each.size, each.start))[:MAX_REGIONS]
    apart: list[Region] = []
    for each in sorted(found, key=lambda each: (each.start, -each.size)):
        if each.size and (not apart or each.start >= apart[-1].end):
            apart.append(each)
    return apart


def _all(reader: _Reader) -> Iterator[Region]:
    root = _Table(reader, reader.follow(0))
    buffers = [_buffer(table) for table in root.tables(4)]
    for subgraph in root.tables(2):
        for tensor in subgraph.tables(0):
            name, index = tensor.text(3), tensor.number(2, "I")
            if index < len(buffers):
                yield Region(name, WEIGHTS, *buffers[index])
            quantization = tensor.table(4)
            if quantization is not None:
                yield Region(name, SCALES, *quantization.vector(2, 4))
                yield Region(name, ZERO_POINTS, *quantization.vector(3, 8))


def _buffer(table: _Table) -> tuple[int, int]:
    """Start and size: the bytes lie in the table, or at an absolute place in files over 2 GB."""
    start, size = table.number(1, "Q"), table.number(2, "Q")
    if start > 1:
        table.reader.within(start, size)
        return start, size
    return table.vector(0, 1)


class _Reader:
    """Bounds-checked numbers, all of them little-endian."""

    def __init__(self, data: bytes) -> None:
        self.data, self.left = data, MAX_ITEMS

    def within(self, position: int, size: int) -> None:
        if position < 0 or position + size > len(self.data):
            raise NotAModel(f"{size} bytes at {position}, of {len(self.data)}")

    def number(self, code: str, position: int) -> int:
        self.within(position, struct.calcsize(f"<{code}"))
        value: int = struct.unpack_from(f"<{code}", self.data, position)[0]
        return value

    def follow(self, position: int) -> int:
        return position + self.number("I", position)


class _Table:
    """One table; a field that is absent reads as its default."""

    def __init__(self, reader: _Reader, position: int) -> None:
        reader.left -= 1
        if reader.left < 0:
            raise NotAModel(f"more than {MAX_ITEMS} tables")
        self.reader, self._position = reader, position
        self._vtable = position - reader.number("i", position)
        self._size = reader.number("H", self._vtable)

    def _slot(self, field: int) -> int:
        """Where a field lies; 0 for one that is absent."""
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset = self.reader.number("H", self._vtable + entry)
        return self._position + offset if offset else 0

    def number(self, field: int, code: str) -> int:
        slot = self._slot(field)
        return self.reader.number(code, slot) if slot else 0

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Start and size in bytes of a vector whose items have `width` bytes."""
        slot = self._slot(field)
        if not slot:
            return 0, 0
        at = self.reader.follow(slot)
        size = self.reader.number("I", at) * width
        self.reader.within(at + 4, size)
        return at + 4, size

    def text(self, field: int) -> str:
        start, size = self.vector(field, 1)
        return self.reader.data[start : start + min(size, MAX_NAME_BYTES)].decode("utf-8", "replace")

    def table(self, field: int) -> _Table | None:
        slot = self._slot(field)
        return _Table(self.reader, self.reader.follow(slot)) if slot else None

    def tables(self, field: int) -> Iterator[_Table]:
        start, size = self.vector(field, 4)
        for slot in range(start, start + size, 4):
            yield _Table(self.reader, self.reader.follow(slot))
