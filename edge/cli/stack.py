"""Room for Python's frames.

CPython (3.11 and later) keeps them in chunks of 16 KiB, and unmaps a chunk with the last frame in it: where a loop
happens to call across the end of one, every call costs two system calls and a page fault. Imports did so at the depth
of the command line: 3,700 times, a third of the time to the first answer. A frame that wants more than a chunk gets
a larger one, and the frames that it calls share what it leaves of it.
Source: https://github.com/python/cpython/blob/v3.11.7/Python/pystate.c, push_chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FRAME_BYTES = 520 * 1024
"""What the frame claims: a little over half of 1 MiB, so that the chunk is one, and the rest is for others. It is never
written, so it takes no memory."""
POINTER_BYTES = 8


def on_one_chunk(function: Callable[P, T]) -> Callable[P, T]:
    """The same function; what it calls finds its frames on one chunk, some thousand deep."""

    def roomy(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=FRAME_BYTES // POINTER_BYTES)
    return wraps(function)(roomy)
