"""One request on its way through a lane, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from edge.core.arrival import Arrival
from edge.core.rows import Work
from edge.domain.errors import DeadlineExceeded
from edge.domain.tensors import Tensors

if TYPE_CHECKING:
    from edge.core.instance import Instance

Tell = tuple[Callable[..., None], tuple[Any, ...]]
"""What the event loop is to call, and with what."""


@dataclass(slots=True)
class Ran:
    """Outputs of one request, the time that it waited and the time that it ran, in seconds."""

    outputs: Tensors
    queue_s: float
    run_s: float


class Task(Protocol):
    """What a lane runs at a time: a request, or several in one. `started`: when it was, 0 until a lane has it."""

    started: float

    def claim(self, now: float) -> bool:
        """Whether somebody still waits for it. By the lane that has it, before it runs."""
        ...

    def run(self, instance: Instance) -> Any:
        """What `resolve` wants. Blocks. Raises as Instance.run."""
        ...

    def resolve(self, outputs: Any, ended: float) -> None: ...
    def failed(self, error: Exception) -> Tell:
        """The run's error, in the lane's thread."""
        ...

    def fail(self, error: BaseException) -> None:
        """For good, in the loop's."""
        ...


class Job:
    """`deadline` in the loop's time; `started` is 0 until a lane has it. Only the loop's thread resolves it.

    `key` and `rows` say whom it may share a run with, where the model takes several requests at once.
    """

    __slots__ = ("abandoned", "arrival", "deadline", "key", "queued", "rows", "started", "work")

    def __init__(
        self,
        work: Work,
        deadline: float | None,
        arrival: Arrival[Ran],
        key: Hashable | None = None,
        rows: int = 1,
    ) -> None:
        self.work: Work | None = work
        self.deadline = deadline
        self.arrival = arrival
        self.key, self.rows = key, rows
        self.queued = monotonic()
        self.started = 0.0
        self.abandoned = False

    def claim(self, now: float) -> bool:
        return self.work is not None and not self.abandoned and (self.deadline is None or now <= self.deadline)

    def run(self, instance: Instance) -> Tensors:
        work = self.work
        return instance.run(work) if work is not None else {}

    def abandon(self) -> None:
        """Nobody waits any more. An error knows frames that know this: in a circle, the inputs would stay for long."""
        self.abandoned = True
        self.work = None
        del self.arrival

    def resolve(self, outputs: Tensors, ended: float) -> None:
        if not (self.abandoned or self.arrival.done()):
            self.arrival.set_result(Ran(outputs, self.started - self.queued, ended - self.started))

    def failed(self, error: Exception) -> Tell:
        return self.fail, (error,)

    def fail(self, error: BaseException) -> None:
        if not (self.abandoned or self.arrival.done()):
            self.arrival.set_exception(error)

    def expire(self) -> None:
        self.fail(expired(started=bool(self.started)))


def expired(*, started: bool) -> DeadlineExceeded:
    """A request's time was up, before a lane had it or after."""
    where = "while the model ran" if started else "in the queue"
    return DeadlineExceeded(f"the request's time was up {where}")
