"""Which file system a path is on, from what the kernel says of its mounts.

Two paths on one device may still not be linked or renamed between, where it is mounted twice.
Source: proc_pid_mountinfo(5)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")
IN_MEMORY = ("tmpfs", "ramfs")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """`kind`: e.g. "ext4"."""

    number: int
    point: PurePosixPath
    kind: str
    read_only: bool


def mount_of(path: PurePosixPath, mountinfo: str) -> Mount | None:
    """`path`: absolute, without links. Of two mounts on one point, the later one hides the other. None where nothing fits."""
    found = None
    for mount in parse_mounts(mountinfo):
        if path.is_relative_to(mount.point) and (found is None or mount.point.is_relative_to(found.point)):
            found = mount
    return found


def parse_mounts(mountinfo: str) -> Iterator[Mount]:
    """A line that makes no sense is passed over."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if len(fields) < 6 or not fields[0].isdigit():
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        options = {*fields[5].split(","), *(kinds[2].split(",") if len(kinds) > 2 else ())}
        yield Mount(int(fields[0]), PurePosixPath(point), kinds[0], "ro" in options)


def in_memory(path: Path, mountinfo: Path = MOUNTINFO) -> str:
    """The kind of file system that a path is on, if the power takes it along; else "". Blocks."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        mount = mount_of(PurePosixPath(path.resolve()), mountinfo.read_text())
    except OSError:
        return ""
    return mount.kind if mount is not None and mount.kind in IN_MEMORY else ""
