"""What the device has left: memory, and disk. Blocks."""

from __future__ import annotations

from pathlib import Path

from sync.domain.ports import Files

MEMINFO = Path("/proc/meminfo")


def free_bytes(files: Files, directory: Path) -> int:
    """Of the disk; 0 where it does not say."""
    try:
        return files.free(directory)
    except OSError:
        return 0


def memory_mb() -> int | None:
    """MiB that are available now; None where the system does not say."""
    have = memory_bytes()
    return None if have is None else have >> 20


def memory_bytes() -> int | None:
    """Available now; None where the system does not say."""
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
