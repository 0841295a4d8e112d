"""Reads what a .tflite file says of itself, without a runtime.

Rule 1: the file is hostile. Every position is checked against its end, and all work is bounded by `MAX_ITEMS`.
Rule 2: LoadError is all that comes out, and it says what is wrong. A C++ runtime given the same file may crash.
Rule 3: weights are never looked at; the file is read whole, and never mapped (docs/adr/0004-model-files.md).

Sources: https://flatbuffers.dev/internals/ for the encoding, and the published schema for the fields' numbers:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.domain.errors import LoadError
from edge.domain.tensors import MAX_RANK
from edge.files import open_regular

IDENTIFIER = b"TFL3"
SHORTEST_BYTES = 8
"""Of what can have an identifier."""
VERSION = 3
MAX_ITEMS = 500_000
"""Tables and numbers read from one file: a few seconds of work, and 50 times what the largest vision models need."""
MAX_FILE_BYTES = 2**31 - 1
"""All that the format can hold."""
MAX_NAME_BYTES = 4_096

EDGETPU_OP = "edgetpu-custom-op"
CUSTOM, IF, WHILE = 32, 118, 119


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`type` is the schema's TensorType. `shape` has -1 for a dimension of any size. One scale: per-tensor quantization."""

    name: str
    type: int
    shape: tuple[int, ...]
    constant: bool
    scales: int = 0
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class SubgraphInfo:
    tensors: tuple[TensorInfo, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """A SignatureDef: names of tensors to their indices in one subgraph."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    subgraph: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's interface and operators. `size` is the file's, in bytes."""

    size: int
    builtin_ops: frozenset[int]
    custom_ops: tuple[str, ...]
    subgraphs: tuple[SubgraphInfo, ...]
    signatures: tuple[SignatureInfo, ...]

    @property
    def for_edgetpu(self) -> bool:
        """Whether a part of it was compiled for the Edge TPU."""
        return EDGETPU_OP in self.custom_ops

    @property
    def has_loops(self) -> bool:
        """Whether its run time may not follow from its input's size."""
        return not self.builtin_ops.isdisjoint((IF, WHILE))


def read_content(path: Path) -> bytes:
    """The file as it is now. Raises LoadError.

    Never by mapping it into memory: if it is written to in place, what is mapped changes with it, and if it is cut
    short, to look at it kills the process.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_FILE_BYTES:
                raise LoadError(f"{path.name}: want at most {MAX_FILE_BYTES} bytes, got {status.st_size}")
            content = file.read()
    except OSError as error:
        raise LoadError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise LoadError(f"{path.name}: want a TFLite model, got an empty file")
    return content


def read_model(path: Path) -> ModelFile:
    """Raises LoadError: not readable, not a TFLite model, truncated or corrupt."""
    return parse(read_content(path), path.name)


def parse(data: bytes, name: str = "model") -> ModelFile:
    """The same, from bytes. Raises LoadError; `name` is for its message."""
    if len(data) < SHORTEST_BYTES:
        raise LoadError(f"{name}: want a TFLite model, got a file that is only {len(data)} bytes long")
    if data[4:8] != IDENTIFIER:
        raise LoadError(f"{name}: want a TFLite model, which has {IDENTIFIER!r} at byte 4; got {bytes(data[4:8])!r}")
    try:
        return _model(_Reader(data))
    except _Malformed as error:
        raise LoadError(f"{name}: truncated or corrupt: {error}") from None


class _Malformed(Exception):
    pass


class _Reader:
    """Bounds-checked numbers, strings and vectors. All integers are little-endian."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.left = data, len(data), MAX_ITEMS

    def spend(self, items: int) -> None:
        self.left -= items
        if self.left < 0:
            raise _Malformed(f"more than {MAX_ITEMS} tables and numbers")

    def numbers(self, code: str, position: int, count: int = 1) -> tuple[int, ...]:
        self.within(position, struct.calcsize(f"<{code}") * count)
        return struct.unpack_from(f"<{count}{code}", self.data, position)

    def number(self, code: str, position: int) -> int:
        return self.numbers(code, position)[0]

    def within(self, position: int, size: int) -> None:
        if position < 0 or position + size > self.size:
            raise _Malformed(f"{size} bytes at {position}, of {self.size}")

    def follow(self, position: int) -> int:
        return position + self.number("I", position)

    def vector(self, position: int, width: int) -> tuple[int, int]:
        """Start and length of the vector that the offset at `position` leads to."""
        at = self.follow(position)
        count = self.number("I", at)
        self.within(at + 4, count * width)
        return at + 4, count

    def text(self, position: int) -> str:
        start, count = self.vector(position, 1)
        if count > MAX_NAME_BYTES:
            raise _Malformed(f"a name of {count} bytes, want at most {MAX_NAME_BYTES}")
        return bytes(self.data[start : start + count]).decode("utf-8", "replace")


class _Table:
    """One table; a field that is absent reads as its default."""

    def __init__(self, reader: _Reader, position: int) -> None:
        reader.spend(1)
        self.reader, self.position = reader, position
        self.vtable = position - reader.number("i", position)
        self.vtable_size = reader.number("H", self.vtable)

    def slot(self, field: int) -> int:
        """Where a field lies; 0 for one that is absent."""
        entry = 4 + 2 * field
        if entry + 2 > self.vtable_size:
            return 0
        offset = self.reader.number("H", self.vtable + entry)
        return self.position + offset if offset else 0

    def number(self, field: int, code: str, default: int = 0) -> int:
        slot = self.slot(field)
        return self.reader.number(code, slot) if slot else default

    def text(self, field: int) -> str:
        slot = self.slot(field)
        return self.reader.text(slot) if slot else ""

    def table(self, field: int) -> _Table | None:
        slot = self.slot(field)
        return _Table(self.reader, self.reader.follow(slot)) if slot else None

    def length(self, field: int, width: int) -> int:
        slot = self.slot(field)
        return self.reader.vector(slot, width)[1] if slot else 0

    def numbers(self, field: int, code: str, most: int = MAX_ITEMS) -> tuple[int, ...]:
        slot = self.slot(field)
        if not slot:
            return ()
        start, count = self.reader.vector(slot, struct.calcsize(f"<{code}"))
        if count > most:
            raise _Malformed(f"{count} numbers at {start}, want at most {most}")
        self.reader.spend(count)
        return self.reader.numbers(code, start, count)

    def tables(self, field: int) -> Iterator[_Table]:
        slot = self.slot(field)
        if slot:
            start, count = self.reader.vector(slot, 4)
            for index in range(count):
                yield _Table(self.reader, self.reader.follow(start + 4 * index))


def _model(reader: _Reader) -> ModelFile:
    root = _Table(reader, reader.follow(0))
    version = root.number(0, "I")
    if version != VERSION:
        raise _Malformed(f"schema version {version}, want {VERSION}")
    operators = [_operator_code(table) for table in root.tables(1)]
    filled = [_has_data(table) for table in root.tables(4)]
    subgraphs = tuple(_subgraph(table, len(operators), filled) for table in root.tables(2))
    if not subgraphs:
        raise _Malformed("no subgraph")
    return ModelFile(
        reader.size,
        frozenset(code for code, _ in operators if code != CUSTOM),
        tuple(dict.fromkeys(name for code, name in operators if code == CUSTOM)),
        subgraphs,
        tuple(_signature(table, subgraphs) for table in root.tables(7)),
    )


def _operator_code(table: _Table) -> tuple[int, str]:
    """Codes beyond 127 are in a field of their own, added later."""
    return max(table.number(0, "b"), table.number(3, "i")), table.text(1)


def _has_data(table: _Table) -> bool:
    """A buffer's bytes lie in the table, or beyond the tables at an absolute place in files over 2 GB."""
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    if offset > 1:
        table.reader.within(offset, size)
        return size > 0
    return table.length(0, 1) > 0


def _subgraph(table: _Table, operators: int, filled: list[bool]) -> SubgraphInfo:
    tensors = tuple(_tensor(one, filled) for one in table.tables(0))
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    _check_indices("a subgraph's tensor", inputs + outputs, 0, len(tensors))
    for operator in table.tables(3):
        _check_indices("an operator's code", (operator.number(0, "I"),), 0, operators)
        _check_indices("an operator's tensor", operator.numbers(1, "i") + operator.numbers(2, "i"), -1, len(tensors))
    return SubgraphInfo(tensors, inputs, outputs)


def _tensor(table: _Table, filled: list[bool]) -> TensorInfo:
    shape = table.numbers(7, "i", MAX_RANK) or table.numbers(0, "i", MAX_RANK)
    if any(size < -1 for size in shape):
        raise _Malformed(f"a tensor of shape {list(shape)}")
    buffer = table.number(2, "I")
    _check_indices("a tensor's buffer", (buffer,), 0, max(1, len(filled)))
    constant = bool(filled) and filled[buffer]
    name, kind = table.text(3), table.number(1, "b")
    quantization = table.table(4)
    scales = quantization.length(2, 4) if quantization else 0
    if quantization is None or scales != 1:
        return TensorInfo(name, kind, shape, constant, scales)
    zero_points = quantization.numbers(3, "q", 1) if quantization.length(3, 8) == 1 else (0,)
    return TensorInfo(name, kind, shape, constant, 1, quantization.numbers(2, "f")[0], zero_points[0])


def _signature(table: _Table, subgraphs: tuple[SubgraphInfo, ...]) -> SignatureInfo:
    subgraph = table.number(4, "I")
    _check_indices("a signature's subgraph", (subgraph,), 0, len(subgraphs))
    count = len(subgraphs[subgraph].tensors)
    inputs = {one.text(0): one.number(1, "I") for one in table.tables(0)}
    outputs = {one.text(0): one.number(1, "I") for one in table.tables(1)}
    _check_indices("a signature's tensor", (*inputs.values(), *outputs.values()), 0, count)
    return SignatureInfo(table.text(2), inputs, outputs, subgraph)


def _check_indices(what: str, indices: tuple[int, ...], least: int, count: int) -> None:
    for index in indices:
        if not least <= index < count:
            raise _Malformed(f"{what} is number {index} of {count}")
