"""One instance on one thread, and a run on whatever thread calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from edge.core.handoff import Worker
from edge.core.instance import Instance
from edge.core.job import Job, Ran, Task, Tell, expired
from edge.core.rows import Work


class Tasks(Protocol):
    """The queue before the lanes of one version: `Handoff`, or `BatchQueue`."""

    @property
    def depth(self) -> int: ...
    @property
    def idle(self) -> int: ...
    def put(self, job: Job) -> None: ...
    def take(self, worker: Worker[Task]) -> Task | None: ...
    def borrow(self) -> Worker[Task] | None: ...
    def give_back(self, worker: Worker[Task]) -> None: ...
    def withdraw(self, job: Job) -> None: ...
    def release(self) -> None: ...
    def hangs(self, worker: Worker[Task]) -> None: ...
    def close(self) -> None: ...


class ThreadLane(Worker[Task]):
    """`job` is what runs now; `wedged` says that it has run for too long.

    `retired`: another lane took over, and this one ends with the run that it hangs in. `tell`: what the event loop is to call,
    and with what, goes there.
    """

    def __init__(self, tasks: Tasks, tell: Callable[..., None], instance: Instance, name: str) -> None:
        super().__init__()
        self.instance = instance
        self.job: Task | None = None
        self.wedged = self.retired = False
        self._tasks, self._tell = tasks, tell
        # A daemon: a run that hangs may not keep the process alive past its drain time.
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        take = self._tasks.take
        while not self.retired and (job := take(self)) is not None:
            now = monotonic()
            if not job.claim(now):
                continue
            job.started = now
            self.job = job
            tell, result = self._run(job)
            self.job = None
            if self.wedged:
                self.wedged = False
                self.instance.came_back()
            del job
            # The last thing before it waits: the loop that is woken wants the interpreter's lock.
            self._tell(tell, *result)
            del tell, result
        self.instance.close()

    def _run(self, job: Task) -> Tell:
        try:
            with self.instance.lock:
                job.started = monotonic()
                outputs: Any = job.run(self.instance)
            return job.resolve, (outputs, monotonic())
        except Exception as error:  # everything goes to whoever waits; a bug is logged there
            return job.failed(error)


def run_here(instance: Instance, work: Work, deadline: float | None) -> Ran:
    """Raises DeadlineExceeded, and as Instance.run."""
    start = monotonic()
    if deadline is not None and start > deadline:
        raise expired(started=False)
    outputs = instance.run(work)
    ended = monotonic()
    if deadline is not None and ended > deadline:
        raise expired(started=True)
    return Ran(outputs, 0.0, ended - start)
