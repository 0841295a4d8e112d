"""Answers that one version gave, by its signature and what it was asked: off unless `cache_bytes` is set.

Rule 1: it belongs to a slot, and goes with it: no answer outlives its version. Rule 2: what it takes is bounded in bytes, and who
was asked for the longest time ago goes first. Rule 3: what it holds is its own: nobody can change it.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import numpy as np

from edge.core.rows import Work
from edge.domain.tensors import Tensors

DIGEST_BYTES = 32
ENTRY_BYTES = 1_024
"""What an answer takes beside its elements: digest, names, array headers."""
STRING_BYTES = 48
"""What a string takes beside its own."""


class Cache:
    """At most `max_bytes` of answers. For the event loop's thread only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._answers: OrderedDict[bytes, tuple[Tensors, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: bytes) -> Tensors | None:
        """The outputs of that request, not to be written to."""
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: bytes, outputs: Tensors) -> None:
        """Remember them, unless they are too large."""
        size = ENTRY_BYTES + bytes_of(outputs)
        if size > self._max_bytes or key in self._answers:
            return
        while self.bytes + size > self._max_bytes:
            _, (_, freed) = self._answers.popitem(last=False)
            self.bytes -= freed
        own = {name: array.copy() for name, array in outputs.items()}
        for array in own.values():
            array.flags.writeable = False
        self._answers[key] = own, size
        self.bytes += size


def digest(work: Work) -> bytes:
    """Of everything that an answer depends on: signature, names, types, shapes and elements."""
    found = blake2b(work.signature.encode(), digest_size=DIGEST_BYTES)
    for name, array in sorted(work.inputs.items()):
        found.update(f"\0{len(name)}:{name}{array.dtype.str}{array.shape}".encode())
        if array.dtype == object:
            for text in array.flat:
                found.update(len(text).to_bytes(8, "little"))
                found.update(text)
        else:
            found.update(np.ascontiguousarray(array).data)
    return found.digest()


def bytes_of(tensors: Tensors) -> int:
    """Of their elements; a string with what Python adds to it."""
    total = 0
    for array in tensors.values():
        total += array.nbytes
        if array.dtype == object:
            total += sum(map(len, array.flat)) + STRING_BYTES * array.size
    return total
