"""One request on its way through a lane, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

from edge.core.rows import Work
from edge.domain.errors import DeadlineExceeded
from edge.domain.tensors import Tensors


@dataclass(slots=True)
class Ran:
    """Outputs of one request, the time that it waited and the time that it ran, in seconds."""

    outputs: Tensors
    queue_s: float
    run_s: float


class Job:
    """`deadline` in the loop's time; `started` is 0 until a lane has it. Only the loop's thread resolves it."""

    __slots__ = ("abandoned", "deadline", "future", "queued", "started", "work")

    def __init__(self, work: Work, deadline: float | None, future: asyncio.Future[Ran]) -> None:
        self.work: Work | None = work
        self.deadline = deadline
        self.future = future
        self.queued = monotonic()
        self.started = 0.0
        self.abandoned = False

    def abandon(self) -> None:
        """Nobody waits any more. An error knows frames that know this: in a circle, the inputs would stay for long."""
        self.abandoned = True
        self.work = None
        del self.future

    def resolve(self, outputs: Tensors, ended: float) -> None:
        if not (self.abandoned or self.future.done()):
            self.future.set_result(Ran(outputs, self.started - self.queued, ended - self.started))

    def fail(self, error: BaseException) -> None:
        if not (self.abandoned or self.future.done()):
            self.future.set_exception(error)

    def expire(self) -> None:
        self.fail(expired(started=bool(self.started)))


def expired(*, started: bool) -> DeadlineExceeded:
    """A request's time was up, before a lane had it or after."""
    where = "while the model ran" if started else "in the queue"
    return DeadlineExceeded(f"the request's time was up {where}")
