"""One child process from its start to its end, in a thread that lives as long.

Rule 1: the event loop never forks. Its loop's own way to start a process copies this one's page tables and then takes
a fault for every page that is written to: tens of milliseconds in which no request is answered. subprocess uses vfork.
Rule 2: what the child says is bounded. Rule 3: a child that asks to die with its parent dies with this thread. Rule 4: what
it has started ends with it, but for what has left its process group; nobody waits for the pipes of those.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

CHUNK_BYTES = 64 * 1024
LAST_CHUNKS = 32
"""Of what lies in a pipe when the process has ended: more than a pipe holds."""


class Ended(NamedTuple):
    """`code` is negative for a signal; of `said` (stdout) and `complaints` (stderr) these are the last bytes."""

    code: int
    said: bytes
    complaints: bytes


class Child:
    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], *, max_said_bytes: int, max_complaint_bytes: int
    ) -> None:
        self._command, self._env = command, env
        self._most = max_said_bytes, max_complaint_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False

    def run(self, given: bytes) -> Ended:
        """`given` goes to its stdin. Blocks until it has ended. Raises OSError where it cannot be started."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._env,
            # Not a session of its own: where the kernel groups by session, that would have as much of a processor as
            # this one has, however nice its process. Source: https://man7.org/linux/man-pages/man7/sched.7.html
            process_group=0,
        )
        with process:
            with self._lock:
                self._process = process
                if self._over:
                    _kill_group(process)
            assert process.stdin
            assert process.stdout
            assert process.stderr
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(given)
                process.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            said, complaints = _tails(process.pid, (process.stdout, process.stderr), self._most)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its identifier stays its own
            with self._lock:
                _kill_group(process)
                return Ended(process.wait(), said, complaints)

    def waited_s(self) -> float:
        """How long it has been ready to run and had no processor. Where the kernel does not count that: always.

        Source: https://docs.kernel.org/scheduler/sched-stats.html (/proc/PID/schedstat, of its first thread)
        """
        with self._lock:
            pid = self._process.pid if self._process is not None else 0
        try:
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return math.inf

    def kill(self) -> None:
        """From any thread, before, during or after `run`; idempotent."""
        with self._lock:
            self._over = True
            if self._process is not None:
                _kill_group(self._process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started. To be called with the lock: once it is waited for, its identifier may be another's."""
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _tails(pid: int, pipes: tuple[IO[bytes], IO[bytes]], most: tuple[int, int]) -> tuple[bytes, bytes]:
    """The ends of both, read side by side: neither may fill up. Until both are closed, or the process has ended, and what it
    has said by then is read."""
    kept = dict.fromkeys(pipes, b"")
    bounds = dict(zip(pipes, most, strict=True))
    speaking, left = len(pipes), math.inf
    with selectors.DefaultSelector() as ready, _end_of(pid) as end:
        for pipe in pipes:
            ready.register(pipe, selectors.EVENT_READ, pipe)
        if end is not None:
            ready.register(end, selectors.EVENT_READ)
        while speaking and left > 0:
            found = ready.select(None if left == math.inf else 0)
            left = left - 1 if found else 0
            for key, _ in found:
                if key.data is None:
                    ready.unregister(key.fd)
                    left = LAST_CHUNKS
                    continue
                chunk = os.read(key.fd, CHUNK_BYTES)
                if not chunk:
                    ready.unregister(key.fd)
                    speaking -= 1
                kept[key.data] = (kept[key.data] + chunk)[-bounds[key.data] :]
    return kept[pipes[0]], kept[pipes[1]]


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[int | None]:
    """What can be read from once the process has ended; None before Linux 5.3, where only its pipes tell."""
    try:
        end = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield end
    finally:
        os.close(end)
