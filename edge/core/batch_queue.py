"""Requests to the threads that run them, several at once where that pays: in place of `Handoff`.

Rule 1: `edge.core.batcher` decides, here it is done; each decision is made with the lock held, on what is true then.
Rule 2: of idle workers the one that was busy last is woken. Rule 3: while a batch is held, one idle worker has the alarm.
Rule 4: what is put back is before all that waits, and alone.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import cast

from edge.core.batch import Batch
from edge.core.batcher import IN_NO_HURRY_S, Lanes, Limits, decide
from edge.core.handoff import Worker
from edge.core.job import Job, Task
from edge.core.run_times import Load, RunTimes

_LOOK = cast("Task", object())
"""To an idle worker: the alarm is yours, look when it is time."""


class BatchQueue:
    """Safe to use from any thread. `count(rows)` is called in the event loop's for each run."""

    def __init__(self, limits: Limits, times: RunTimes, count: Callable[[int], None] = lambda rows: None) -> None:
        self.limits, self._times, self._count = limits, times, count
        self._lock = threading.Lock()
        self._waiting: list[Job] = []
        self._idle: list[Worker[Task]] = []
        self._running: dict[Worker[Task], int] = {}
        self._load = Load()
        self._watching: Worker[Task] | None = None
        self._look_at = self._alarm = math.inf
        self._room = 0
        self._closed = False

    @property
    def depth(self) -> int:
        """Requests that no worker has taken."""
        return len(self._waiting)

    @property
    def idle(self) -> int:
        """Workers that have nothing to do."""
        return len(self._idle)

    def put(self, job: Job) -> None:
        with self._lock:
            self._waiting.append(job)
            self._load.arrived(job.queued, len(self._waiting) + sum(self._running.values()))
            self._room -= job.rows
            if self._room <= 0 or job.key is None or (job.deadline or math.inf) - job.queued < IN_NO_HURRY_S:
                self._hand_out()

    def release(self) -> None:
        """What waits for a run to end, and for no longer than short ones take, waits no more: that one hangs."""
        if self.limits.timeout_s == 0:
            with self._lock:
                self._hand_out(busy=False)

    def hangs(self, worker: Worker[Task]) -> None:
        """It may never come back for more: its run is none that anybody waits for."""
        with self._lock:
            self._running.pop(worker, 0)
            self._hand_out()

    def put_back(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self._waiting[:0] = jobs
            self._hand_out()

    def answered(self, requests: int, rows: int, run_s: float) -> None:
        with self._lock:
            self._times.judged(requests, failed=False)
            if rows:
                self._times.observe(rows, run_s)

    def failed(self) -> None:
        with self._lock:
            self._times.judged(1, failed=True)

    def counted(self, rows: int) -> None:
        self._count(rows)

    def take(self, worker: Worker[Task]) -> Task | None:
        """The next run; blocks. None once it is closed and nothing waits."""
        with self._lock:
            self._running.pop(worker, 0)
            if (task := self._next()) is not None:
                self._running[worker] = task.requests
                return task
            if self._closed and not self._waiting:
                return None
            self._idle.append(worker)
            self._watch(worker)
        return self._wait(worker)

    def borrow(self) -> Worker[Task] | None:
        """An idle worker, the one that was busy last; None if none is."""
        with self._lock:
            return self._wake() if self._idle else None

    def give_back(self, worker: Worker[Task]) -> None:
        """A worker that was borrowed; it takes what has come meanwhile."""
        with self._lock:
            self._idle.append(worker)
            self._hand_out()
            if self._closed:
                self._end()

    def withdraw(self, job: Job) -> None:
        """Nobody waits for it any more; nothing happens where a worker has it already."""
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """Workers finish what waits, and end."""
        with self._lock:
            self._closed = True
            self._hand_out()
            self._end()

    def _end(self) -> None:
        while self._idle:
            self._idle.pop().inbox.put(None)

    def _wait(self, worker: Worker[Task]) -> Task | None:
        while True:
            alarm = self._alarm if self._watching is worker else math.inf
            try:
                task = worker.inbox.get(timeout=max(0.0, alarm - monotonic()) if alarm < math.inf else None)
            except queue.Empty:
                with self._lock:
                    self._hand_out()  # what is for this very worker lies in its inbox then
                continue
            if task is not _LOOK:
                return task

    def _hand_out(self, *, busy: bool = True) -> None:
        """What is ready goes to idle workers; for what is held, one of them has the alarm."""
        self._look_at = math.inf
        while self._idle and (task := self._next(busy=busy)) is not None:
            worker = self._wake()
            self._running[worker] = task.requests
            worker.inbox.put(task)
        self._watch()

    def _watch(self, awake: Worker[Task] | None = None) -> None:
        """For what is held one idle worker has the alarm; `awake` need not be woken to hear of it."""
        if self._look_at == math.inf or not self._idle:
            self._watching, self._alarm = None, math.inf
            return
        earlier, self._alarm = self._look_at < self._alarm, self._look_at
        if self._watching is None or earlier:
            self._watching = self._watching or awake or self._idle[-1]
            if self._watching is not awake:
                self._watching.inbox.put(_LOOK)

    def _wake(self) -> Worker[Task]:
        worker = self._idle.pop()
        if worker is self._watching:
            self._watching, self._alarm = None, math.inf
        return worker

    def _next(self, *, busy: bool = True) -> Batch | None:
        """What is to run now, taken out; None where nothing is. Says in `_look_at` when it may be otherwise."""
        waiting = self._waiting
        if not waiting:
            self._look_at, self._room = math.inf, 0
            return None
        running = sum(self._running.values()) if busy and not self._closed else 0
        lanes = Lanes(max(1, len(self._idle) + len(self._running)), running)
        load = None if self._closed or not busy else self._load
        found = decide(waiting, self.limits, self._times, now=monotonic(), lanes=lanes, load=load)
        self._look_at, self._room = found.look_at, found.room
        if not found.take and not found.late:
            return None
        jobs = [waiting[at] for at in found.take]
        gone = {*found.take, *found.late}
        self._waiting = [job for at, job in enumerate(waiting) if at not in gone]
        return Batch(jobs, self.limits, self) if jobs else None
