"""What holds for every child process of this package: it ends with its parent, and its end has a word. Standard library only.

Rule: nothing here is imported late or costs anything: a child calls it before it does anything else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """The kernel kills this process when its parent's thread ends; a parent that is gone already is noticed here."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the server is gone")


def memory_bytes(key: str, pid: int | None = None) -> int:
    """`VmRSS`, what is resident, or `VmHWM`, the most that ever was; of this process, or of another. 0 where it has ended.

    (`ru_maxrss` would begin with the parent's size at the fork.)
    """
    try:
        with open(f"/proc/{pid or 'self'}/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(key + ":")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
