"""Where a model's code runs: on the event loop for the tiniest and for a lone client, on threads of its own otherwise.

Rule 1: an instance has one caller at a time; a lane owns its instance.
Rule 2: the queue before the lanes is bounded; a full one refuses at once.
Rule 3: what was given up (deadline, client gone) is skipped and takes no place in the queue for long, and a run that hangs is taken out of service.
Rule 4: a run holds its device's lock. Rule 5: where a device hangs, an instance that runs elsewhere takes over.
Rule 6: which requests share a run is for `edge.core.batcher`, and only where `batching` says so; the event loop has no batches.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from edge.core.arrival import Arrival
from edge.core.handoff import Handoff
from edge.core.instance import Instance
from edge.core.job import Job, Ran, Task
from edge.core.lane import Tasks, ThreadLane, run_here
from edge.core.rows import Work
from edge.domain.errors import InferenceFailed, InvalidInput, LoadError, NotReady, Overloaded

if TYPE_CHECKING:
    from edge.core.batch import Batching

log = logging.getLogger(__name__)

STAND_IN_WITHIN_S = 60.0
"""Until another instance runs in the place of one that hangs on its device."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What was decided from the measured run time.

    A request of at most `inline_elements` input elements runs on the event loop when nothing else of its
    model is under way, or always when `inline_always`; 0 keeps everything off the loop. One of at most
    `alone_elements` runs there, on an idle thread's instance, for a client that is the only one.
    """

    threads: int
    inline_elements: int = 0
    inline_always: bool = False
    alone_elements: int = 0

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        if self.inline_elements:
            return "on the event loop" + (f" and {threads}" if self.threads else "")
        return f"on {threads}" + (", on the event loop for a client that is alone" if self.alone_elements else "")


class Lanes:
    """All instances of one version, and the bounded queue before them."""

    def __init__(
        self,
        name: str,
        instances: Sequence[Instance],
        plan: LanePlan,
        *,
        max_queue: int,
        max_run_s: float,
        batching: Batching | None = None,
        count: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """`instances`: one for the loop first, if the plan has any inline work, then one for each thread.

        `count(rows)` is called for each run of what may share one.
        """
        self.name, self.plan = name, plan
        self.queue: Tasks
        if batching is None:
            self.queue = Handoff[Task]()
        else:
            from edge.core.batch_queue import BatchQueue  # most servers have no such model, and start without it

            self.queue = BatchQueue(batching.limits, batching.times, count)
        self._batching = batching
        self._loop = asyncio.get_running_loop()
        self._inline = instances[0] if plan.inline_elements else None
        rest = instances[1:] if plan.inline_elements else instances
        self._threads = [ThreadLane(self.queue, self.tell, each, f"{name}/{n}") for n, each in enumerate(rest)]
        self._max_queue, self._max_run_s = max_queue, max_run_s
        self._no_stand_in = ""
        self._closed = False
        self._jobs: set[Job] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._watchdog: asyncio.TimerHandle | None = None
        for lane in self._threads:
            lane.thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait for a lane."""
        return self.queue.depth

    @property
    def instances(self) -> list[Instance]:
        return [*([self._inline] if self._inline else []), *(lane.instance for lane in self._threads)]

    @property
    def wedged(self) -> str:
        """Why nothing can run, or empty."""
        if self._threads and all(lane.wedged for lane in self._threads):
            return f"{self._threads[0].instance.device}: {self._too_long}" + self._no_stand_in
        return ""

    def hung(self, now: float) -> str:
        """Why nothing runs here until the process is another one, or empty: every thread hangs, and no other takes over.
        `now` of the monotonic clock."""
        limit_s = self._max_run_s
        if not self._no_stand_in and any(lane.instance.replaceable for lane in self._threads):
            limit_s += STAND_IN_WITHIN_S
        jobs = [lane.job for lane in self._threads]
        if not jobs or any(job is None or now - job.started <= limit_s for job in jobs):
            return ""
        return f"{self.name}: {self._threads[0].instance.device}: {self._too_long}{self._no_stand_in}"

    @property
    def _too_long(self) -> str:
        return f"a run has taken longer than {self._max_run_s:g} s (max_run_s)"

    def run_now(self, work: Work, deadline: float | None = None, *, alone: bool = False) -> Ran | None:
        """On the event loop, where the plan says so; else None, and it is for `run`. Raises as that does.

        `alone`: no other client waits for the loop.
        """
        plan = self.plan
        if self._jobs and not plan.inline_always:
            return None
        if self._inline is not None and work.elements <= plan.inline_elements:
            return run_here(self._inline, work, deadline)
        if not alone or work.elements > plan.alone_elements:
            return None
        lane = self.queue.borrow()
        if lane is None:
            return None
        assert isinstance(lane, ThreadLane)
        try:
            return run_here(lane.instance, work, deadline)
        finally:
            self.queue.give_back(lane)

    async def run(self, work: Work, deadline: float | None) -> Ran:
        """On a lane's thread. Raises Overloaded, InvalidInput, DeadlineExceeded, NotReady, InferenceFailed. `deadline` in the
        loop's time."""
        if self.wedged:
            raise NotReady(f"{self.name}: {self.wedged}")
        if self.queue.depth >= self._max_queue:
            raise Overloaded(f"{self.name}: {self._max_queue} requests wait already (max_queue)")
        if self._batching is None:
            job = Job(work, deadline, Arrival(self._loop))
        elif len(parts := self._batching.parts(work)) > 1:
            return await self._run_parts(parts, deadline)
        else:
            job = Job(work, deadline, Arrival(self._loop), *self._batching.key(work))
        self._jobs.add(job)
        if deadline is not None and deadline < self._alarm_at:
            self._set_alarm(deadline)
        self.queue.put(job)
        if self._watchdog is None:
            self._watch()
        try:
            return await job.arrival
        finally:
            self._jobs.discard(job)
            job.abandon()
            if not job.started:
                self.queue.withdraw(job)

    async def _run_parts(self, parts: list[Work], deadline: float | None) -> Ran:
        """A request that is too large for a run, as several; it takes the places of all of them in the queue. Raises InvalidInput
        where it has more of them than there are places."""
        from edge.core.batch import join, rows_of

        if len(parts) > self._max_queue:
            most, rows = rows_of(parts[0].inputs), sum(rows_of(part.inputs) for part in parts)
            raise InvalidInput(
                f"{self.name}: want at most {self._max_queue} runs of {most} rows (max_queue) in a request, got {rows} rows"
            )
        if self.queue.depth + len(parts) > self._max_queue:
            raise Overloaded(f"{self.name}: no room for the {len(parts)} runs of a request (max_queue)")
        runs = [self._loop.create_task(self.run(part, deadline)) for part in parts]
        try:
            done = await asyncio.gather(*runs)
        finally:
            for run in runs:
                run.cancel()
        return Ran(join([one.outputs for one in done]), done[0].queue_s, sum(one.run_s for one in done))

    def _set_alarm(self, at: float) -> None:
        """One timer for all requests, at the earliest deadline: most are answered long before, and cost none."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = self._loop.time()
        for job in list(self._jobs):
            if job.deadline is not None and job.deadline <= now:
                job.expire()
        deadlines = [job.deadline for job in self._jobs if job.deadline is not None and job.deadline > now]
        if deadlines:
            self._set_alarm(min(deadlines))

    def tell(self, callback: Callable[..., None], *args: object) -> None:
        """From a lane's thread to the loop; after the loop has gone nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.debug("%s: an answer came after the server had stopped", self.name)

    def _watch(self) -> None:
        self._watchdog = None
        now = monotonic()
        for lane in list(self._threads):
            job = lane.job
            if job is not None and not lane.wedged and now - job.started > self._max_run_s:
                self._hangs(lane, job)
        self.queue.release()
        if self._jobs:
            self._watchdog = self._loop.call_later(min(1.0, self._max_run_s / 2), self._watch)

    def _hangs(self, lane: ThreadLane, job: Task) -> None:
        lane.wedged = True
        if lane.job is not job:  # it came back in this very moment
            lane.wedged = False
            return
        instance = lane.instance
        log.error("%s: a run hangs on %s (max_run_s = %g)", self.name, instance.device, self._max_run_s)
        instance.hangs(self._too_long)
        self.queue.hangs(lane)
        job.fail(InferenceFailed(f"{self.name}: the run took longer than {self._max_run_s:g} s (max_run_s)"))
        if instance.replaceable:
            why = f"{instance.device}: {self._too_long}"
            threading.Thread(target=self._find_stand_in, args=(lane, why), name=f"{self.name}/+", daemon=True).start()

    def _find_stand_in(self, lane: ThreadLane, why: str) -> None:
        """In a thread of its own: loading takes its time."""
        try:
            instance = lane.instance.stand_in(why)
        except LoadError as error:
            self.tell(self._stay_wedged, str(error))
        else:
            self.tell(self._take_over, lane, instance)

    def _stay_wedged(self, why: str) -> None:
        log.error("%s: %s", self.name, why)
        self._no_stand_in = f"; {why}"

    def _take_over(self, lane: ThreadLane, instance: Instance) -> None:
        if self._closed or not lane.wedged:
            instance.close()
            return
        lane.retired = True
        fresh = ThreadLane(self.queue, self.tell, instance, lane.thread.name)
        self._threads[self._threads.index(lane)] = fresh
        fresh.thread.start()
        log.warning("%s: %s", self.name, instance.model.notice)

    def close(self) -> None:
        """Each lane ends after what it runs now, and gives its instance's memory back. Returns at once."""
        self._closed = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        self.queue.close()
        if self._inline is not None:
            self._inline.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads; blocks. One that hangs is left behind."""
        end = monotonic() + timeout_s
        for lane in self._threads:
            lane.thread.join(max(0.0, end - monotonic()))
