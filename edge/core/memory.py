"""How much memory there is, and how it goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

UNKNOWN = 2**62
ARENAS = 1
_M_ARENA_MAX = -8


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What can be had without swapping, as the kernel reckons it (MemAvailable); a huge number where it does not say."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return UNKNOWN


def share_arenas() -> None:
    """One heap for all threads, before the first is started.

    glibc gives each thread one of its own, and what is freed in one is not to be had in another: a hundred versions, each
    loaded in a thread of its own, left a fifth more memory than five did.
    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def return_memory() -> None:
    """Hand freed pages back to the system. glibc keeps them otherwise. Blocks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
