"""Cores that do not go to sleep while something is measured.

A core with nothing to do halts. To wake it takes 40 to 90 µs in a virtual machine, and the first run after it is slower
by a tenth (where the processor powers its matrix unit down): a script that calls the interpreter in a loop never pays
for that, whoever answers requests pays at each of them, and how much depends on the host and its other guests. So one
process a core runs whenever nothing else wants to, and both sides of a ratio meet the same machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

SPIN = """
import os, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {int(sys.argv[1])})
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """As long as it is held; the processes end with this one too."""
    with ExitStack() as stack:
        for core in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-S", "-c", SPIN, str(core), str(os.getpid())]
            stack.callback(_end, subprocess.Popen(command))
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
