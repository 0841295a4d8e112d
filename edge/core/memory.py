"""How much memory there is, and how it goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

UNKNOWN = 2**62


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What can be had without swapping, as the kernel reckons it (MemAvailable); a huge number where it does not say."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return UNKNOWN


def return_memory() -> None:
    """Hand freed pages back to the system. glibc keeps them otherwise. Blocks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
