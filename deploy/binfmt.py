"""Has the kernel run arm64 programs by qemu: what the package `binfmt-support` does for good, and this while it is asked to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACE = Path("/proc/sys/fs/binfmt_misc")
OURS = "edge-aarch64"
QEMU = "qemu-aarch64-static"
# The head of an arm64 program, and which of its bits count.
MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def runs_arm64() -> bool:
    """Whether arm64 programs run here, by themselves or emulated."""
    known = "magic " + MAGIC.replace(r"\x", "")
    return os.uname().machine == "aarch64" or any(known in each.read_text() for each in PLACE.glob("*aarch64*"))


@contextmanager
def registered() -> Iterator[None]:
    """Until the block is left. Raises OSError, CalledProcessError."""
    mounted = (PLACE / "register").exists()
    if not mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", PLACE], check=True)
    try:
        # F: opened now, so that a root without qemu can use it. P: it is told how the program was called.
        (PLACE / "register").write_text(f":{OURS}:M::{MAGIC}:{MASK}:{shutil.which(QEMU)}:PF")
        yield
    finally:
        if (PLACE / OURS).exists():
            (PLACE / OURS).write_text("-1")
        if not mounted:
            subprocess.run(["umount", PLACE], check=True)
