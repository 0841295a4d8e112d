"""bsdiff's search for what of a file is in another one, in a process of its own.

Rule 1: the search has no bound of its own: there are files of 4 MB that it does not end with, and some that crash it. So
it runs apart, for at most SEARCH_S seconds and in at most MEMORY_BYTES, and what goes wrong there means that nothing was found.
Rule 2: what it found is checked before it is used.

Source: https://github.com/ilanschnell/bsdiff4/issues/9 and 14.
"""

from __future__ import annotations

import logging
import resource
import struct
import subprocess
import sys

from sync.delta.pieces import Piece

SEARCH_S = 120.0
MAX_BYTES = 32 << 20
"""Of both files together: for two of 16 MiB, 13 to 36 s and 370 MiB were measured. Larger ones are only aligned."""
MEMORY_BYTES = 1 << 30
"""Of address space: the search takes 16 bytes for each byte of the old file, and copies of both."""
_HEAD = struct.Struct("<QQ")
_STEP = struct.Struct("<qqq")

log = logging.getLogger(__name__)


def search(old: bytes, new: bytes, *, seconds: float = SEARCH_S, max_bytes: int = MAX_BYTES) -> list[Piece] | None:
    """None where it was too much, or went wrong."""
    if len(old) + len(new) > max_bytes:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=_HEAD.pack(len(old), len(new)) + old + new,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.warning("searching %d bytes in %d was not done after %g s", len(new), len(old), seconds)
        return None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
        log.warning("searching %d bytes in %d ended with %d %s", len(new), len(old), done.returncode, last[0])
        return None
    return _pieces(done.stdout, len(old), len(new))


def _pieces(steps: bytes, old_size: int, new_size: int) -> list[Piece] | None:
    """None where the steps leave the files."""
    pieces, at, made = [], 0, 0
    for add, copy, seek in _STEP.iter_unpack(steps):
        if add < 0 or copy < 0 or at < 0 or at + add > old_size or made + add + copy > new_size:
            log.warning("the search found %d bytes at %d of %d", add, at, old_size)
            return None
        if add:
            pieces.append(Piece(made, at, add))
        made += add + copy
        at += add + seek
    return pieces


def _signed(value: int) -> int:
    """From sign and magnitude."""
    return -(value & ((1 << 63) - 1)) if value >> 63 else value


def main() -> None:
    """The process: both files in, steps out."""
    import bsdiff4.core

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    old_size, new_size = _HEAD.unpack(sys.stdin.buffer.read(_HEAD.size))
    old, new = sys.stdin.buffer.read(old_size), sys.stdin.buffer.read(new_size)
    controls: bytes = bsdiff4.core.diff(old, new)[0]
    for step in struct.iter_unpack("<QQQ", controls):
        sys.stdout.buffer.write(_STEP.pack(*map(_signed, step)))


if __name__ == "__main__":
    main()
