"""Shared memory that tensors lie in while they cross from one process to the other.

Rule 1: an arena only grows (it is sealed so): what one side has mapped, the other cannot take away from under it. Rule 2: its
memory is claimed when it grows, so that a full system is an error and not a signal. Rule 3: never larger than
`max_bytes`. Rule 4: where a tensor is said to lie is checked before it is looked at.

Numbers lie as numpy has them, in C order, at multiples of ALIGNMENT bytes; strings as n + 1 offsets (64 bits) and then
their bytes.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from edge.backends.worker.messages import Garbage, Tensor
from edge.domain.tensors import MAX_RANK, Array, DType, Tensors

ALIGNMENT = 64
"""Bytes. What is aligned so, TensorFlow uses as it lies (EIGEN_MAX_ALIGN_BYTES)."""
MAX_ARENA_BYTES = 2**30
"""All inputs and outputs of one run, those of the largest batch too."""
MAX_TENSORS = 10_000
"""Inputs or outputs of one run."""
MAX_ELEMENTS = 2**48
"""Of a shape, each size of 0 taken for 1: an array without elements, too, has sizes that numpy can multiply."""
_LEAST_BYTES = 64 * 1024
_OFFSET = np.dtype("<i8")


class Full(Exception):
    """More is to lie in an arena than may."""

    def __init__(self, wanted: int, max_bytes: int) -> None:
        super().__init__(f"want at most {max_bytes} bytes of tensors in a run, got {wanted}")


class Arena:
    """`file` is its memory, for the other side; owned by this object. `shared`: the other side has it."""

    def __init__(self, file: int, number: int, *, max_bytes: int = MAX_ARENA_BYTES) -> None:
        self.file, self.number, self._max_bytes = file, number, max_bytes
        self.size = 0
        self.shared = False
        self._map: mmap.mmap | None = None

    @classmethod
    def new(cls, number: int, *, max_bytes: int = MAX_ARENA_BYTES) -> Arena:
        """Raises OSError."""
        file = os.memfd_create(f"edge-{number}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(file, number, max_bytes=max_bytes)

    def grow(self, size: int) -> None:
        """To at least that many bytes. Raises Full, and OSError where there is no memory."""
        if size <= self.size:
            return
        if size > self._max_bytes:
            raise Full(size, self._max_bytes)
        size = min(self._max_bytes, max(_LEAST_BYTES, 2 * self.size, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE))
        os.posix_fallocate(self.file, 0, size)
        self._attach(size)

    def follow(self, size: int) -> None:
        """The other side made it that long, or says so. Raises Garbage, OSError."""
        if size == self.size:
            return
        if not self.size < size <= self._max_bytes or os.fstat(self.file).st_size < size:
            raise Garbage(f"an arena of {self.size} bytes cannot have become one of {size}")
        self._attach(size)

    def _attach(self, size: int) -> None:
        # The old mapping stays for as long as an array lies in it.
        self._map, self.size = mmap.mmap(self.file, size), size

    def bytes(self) -> Array:
        """All of it, uint8. It holds the mapping."""
        assert self._map is not None
        return np.frombuffer(self._map, np.uint8)

    def lend(self, done: Callable[[], None]) -> Array:
        """As `bytes`; `done` is called, in any thread, when neither it nor any view of it is there any more."""
        assert self._map is not None
        return np.asarray(_Lease(self._map, self.size, done))

    def close(self) -> None:
        """Arrays that lie in it stay what they are."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


class _Lease:
    """What an array that was lent stands on: numpy keeps it for as long as there is a view."""

    def __init__(self, memory: mmap.mmap, size: int, done: Callable[[], None]) -> None:
        self._first = ctypes.c_char.from_buffer(memory)  # holds the mapping
        self._done = done
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (ctypes.addressof(self._first), False),
        }

    def __del__(self) -> None:
        self._done()


def pack(arena: Arena, tensors: Tensors, at: int = 0) -> tuple[tuple[Tensor, ...], int]:
    """Copies them in from `at` on: where each lies, and where they end. Raises Full, OSError, KeyError for a type unknown."""
    places = []
    for name, array in tensors.items():
        dtype = DType.of(array)
        size = _packed_strings(array) if dtype is DType.STRING else array.nbytes
        at = -(-at // ALIGNMENT) * ALIGNMENT
        places.append(Tensor(name, dtype, array.shape, at, size))
        at += size
    arena.grow(max(at, 1))
    memory = arena.bytes()
    for place, array in zip(places, tensors.values(), strict=True):
        _put(memory[place.at : place.at + place.size], place, array)
    return tuple(places), at


def unpack(memory: Array, places: Collection[Tensor], *, copy: bool = False) -> dict[str, Array]:
    """The tensors by name, numbers as views of `memory` unless `copy`. Raises Garbage."""
    if len(places) > MAX_TENSORS:
        raise Garbage(f"want at most {MAX_TENSORS} tensors, got {len(places)}")
    if len({place.name for place in places}) < len(places):
        raise Garbage("want each tensor once, got one twice")
    return {place.name: _get(memory, place, copy) for place in places}


def _put(room: Array, place: Tensor, array: Array) -> None:
    if place.dtype is not DType.STRING:
        np.copyto(room.view(place.dtype.numpy).reshape(place.shape), array)
        return
    texts = [_as_bytes(text) for text in array.ravel()]
    offsets = np.zeros(len(texts) + 1, _OFFSET)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    room[: offsets.nbytes] = offsets.view(np.uint8)
    room[offsets.nbytes :] = np.frombuffer(b"".join(texts), np.uint8)


def _get(memory: Array, place: Tensor, copy: bool) -> Array:
    count = _count(place.shape)
    if not 0 <= place.at <= place.at + place.size <= len(memory):
        raise Garbage(f"{place.name}: bytes {place.at} to {place.at + place.size} are not in {len(memory)}")
    room = memory[place.at : place.at + place.size]
    if place.dtype is DType.STRING:
        return _texts(place, room, count)
    if place.size != count * place.dtype.numpy.itemsize or place.at % ALIGNMENT:
        raise Garbage(f"{place.name}: {place.size} bytes at {place.at} are no {place.dtype.value} {list(place.shape)}")
    array = room.view(place.dtype.numpy).reshape(place.shape)
    return array.copy() if copy else array


def _texts(place: Tensor, room: Array, count: int) -> Array:
    start = (count + 1) * _OFFSET.itemsize
    if place.size < start or place.at % _OFFSET.itemsize:
        raise Garbage(f"{place.name}: {place.size} bytes at {place.at} are no {count} strings")
    offsets: Any = room[:start].view(_OFFSET).copy()
    if offsets[0] != 0 or offsets[-1] != place.size - start or (np.diff(offsets) < 0).any():
        raise Garbage(f"{place.name}: its strings do not lie one behind the other")
    text = room[start:].tobytes()
    found = np.empty(count, object)
    found[:] = [text[offsets[n] : offsets[n + 1]] for n in range(count)]
    return found.reshape(place.shape)


def _count(shape: tuple[int, ...]) -> int:
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise Garbage(f"{list(shape)} is no shape")
    if math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
        raise Garbage(f"{list(shape)} is no shape of at most {MAX_ELEMENTS} elements")
    return math.prod(shape)


def _packed_strings(array: Array) -> int:
    return (array.size + 1) * _OFFSET.itemsize + sum(len(_as_bytes(text)) for text in array.ravel())


def _as_bytes(text: Any) -> bytes:
    return text if type(text) is bytes else str(text).encode()
