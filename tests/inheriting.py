"""Starts a program as systemd does: sockets from descriptor 3 on, and the variables that say so."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_LAUNCH = """
import os, sys
pid, numbers, command = sys.argv[1], [int(each) for each in sys.argv[2].split(",") if each], sys.argv[3:]
high = [os.dup2(each, 200 + place) for place, each in enumerate(numbers)]
for each in numbers:
    os.close(each)
for place, each in enumerate(high):
    os.dup2(each, 3 + place)
for each in high:
    os.close(each)
os.environ["LISTEN_PID"] = pid.replace("self", str(os.getpid()))
os.environ.setdefault("LISTEN_FDS", str(len(numbers)))
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(command[0], command)
"""


def inheriting(numbers: Sequence[int], *command: str, pid: str = "self") -> list[str]:
    """The command line that does it; whoever runs it passes the descriptors `numbers` on (`pass_fds`).

    pid: LISTEN_PID; "self" in it stands for the program's own.
    """
    return [sys.executable, "-S", "-E", "-c", _LAUNCH, pid, ",".join(map(str, numbers)), *command]
