"""Requests that run as one: what makes them fit, one run of all, and each one's part of the outputs.

Rule 1: rows are told apart by the leading dimension of every input and output; where a model's own outputs have another, nobody
gets anybody's rows, and each request is run again by itself. Rule 2: so it is when the run fails: whose fault that is, is
found out so, and no request is run more than twice. Rule 3: who was given up, or is too late, has no rows in a run.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import numpy as np

from edge.core.batcher import Limits
from edge.core.check import ONE_RUN
from edge.core.instance import Instance
from edge.core.job import Job, Tell
from edge.core.rows import Work, work_of
from edge.core.run_times import RunTimes
from edge.domain.errors import InferenceFailed, NotReady
from edge.domain.tensors import Array, Tensors

ALONE = Limits(max_rows=1)
"""Of a request that shares its run with nobody: it is run as it came."""


class Runs(Protocol):
    """Who made a batch, and is told what came of it. In any thread."""

    def answered(self, requests: int, rows: int, run_s: float) -> None:
        """A run went well. `rows` counts those that fill it up; it is 0 where it could not have been shared, and its time says nothing."""
        ...

    def failed(self) -> None:
        """A request in a run of its own."""
        ...

    def put_back(self, jobs: Sequence[Job]) -> None:
        """To be run one by one, before all that wait."""
        ...

    def counted(self, rows: int) -> None:
        """In the event loop's thread: a run of so many rows, without those that fill it up."""
        ...


@dataclass(frozen=True, slots=True)
class Batching:
    """How one version's requests share runs: those of `signatures`, within `limits`, as `times` say.

    `split_rows`: a request of more is run in parts; 0 for none.
    """

    limits: Limits
    signatures: frozenset[str]
    times: RunTimes
    split_rows: int = 0

    def key(self, work: Work) -> tuple[Hashable | None, int]:
        """What two requests must have in common to share a run, None where one has to be alone; and its rows."""
        if work.rows.split or work.signature not in self.signatures:
            return None, 1
        count = 0
        shapes: list[Hashable] = []
        for name, array in work.inputs.items():
            if not array.ndim or (count and len(array) != count):
                return None, 1
            count = len(array)
            # With its name: clients send inputs in orders of their own.
            shapes.append((name, array.ndim if self.limits.pad_lengths else array.shape[1:]))
        return ((work.signature, *shapes), count) if count else (None, 1)

    def parts(self, work: Work) -> list[Work]:
        """The request, or several of at most `split_rows` rows where it has more."""
        if not self.split_rows:
            return [work]
        key, rows = self.key(work)
        if key is None or rows <= self.split_rows:
            return [work]
        return pieces(work, self.split_rows)


class Batch:
    """`jobs` of one key, at least one. Made and run in a lane's thread, told of in the event loop's."""

    def __init__(self, jobs: Sequence[Job], limits: Limits, runs: Runs) -> None:
        self._jobs, self._limits, self._runs = list(jobs), limits, runs
        self._rows = 0
        self._started = 0.0

    @property
    def requests(self) -> int:
        return len(self._jobs)

    @property
    def started(self) -> float:
        return self._started

    @started.setter
    def started(self, now: float) -> None:
        self._started = now
        for job in self._jobs:
            job.started = now

    def claim(self, now: float) -> bool:
        self._jobs = [job for job in self._jobs if job.claim(now)]
        return bool(self._jobs)

    def run(self, instance: Instance) -> list[Tensors]:
        """Each job's outputs. Raises as Instance.run, and InferenceFailed where the outputs cannot be told apart."""
        # Who is given up meanwhile loses its inputs, in the loop's thread: each is looked at once.
        found = [(job, work) for job in self._jobs if (work := job.work) is not None]
        self._jobs = [job for job, _ in found]
        if not found:
            return []
        works = [work for _, work in found]
        counts = [rows_of(work.inputs) for work in works]
        self._rows = sum(counts)
        began = monotonic()
        shared = found[0][0].key is not None
        work = merge(works, self._limits if shared else ALONE)
        outputs = split(instance.run(work), counts, rows_of(work.inputs))
        self._runs.answered(len(works), rows_of(work.inputs) if shared else 0, monotonic() - began)
        return outputs

    def resolve(self, outputs: Sequence[Tensors], ended: float) -> None:
        if self._jobs:
            self._runs.counted(self._rows)
        for job, own in zip(self._jobs, outputs, strict=True):
            job.resolve(own, ended)

    def failed(self, error: Exception) -> Tell:
        """In the lane's thread: with company everybody is run again alone, unless nothing can run at all."""
        if isinstance(error, NotReady):
            return self.fail, (error,)
        if len(self._jobs) == 1:
            self._runs.failed()
            return self.fail, (error,)
        jobs = [job for job in self._jobs if not job.abandoned]
        for job in jobs:
            job.key, job.started = None, 0.0
        self._runs.put_back(jobs)
        return self._runs.counted, (self._rows,)

    def fail(self, error: BaseException) -> None:
        for job in self._jobs:
            job.fail(error)


def rows_of(inputs: Tensors) -> int:
    """Of the inputs of a request that has a key, or of a batch."""
    first = next(iter(inputs.values()))
    return len(first) if first.ndim else 1


def merge(works: Sequence[Work], limits: Limits) -> Work:
    """One request of all rows, filled up to a size that is allowed by repeating the last row."""
    rows = sum(rows_of(work.inputs) for work in works)
    more = limits.padded(rows) - rows
    if len(works) == 1 and not more:
        return works[0]
    inputs = {name: _stack([work.inputs[name] for work in works], more) for name in works[0].inputs}
    return work_of(works[0].signature, inputs, ONE_RUN)


def pieces(work: Work, max_rows: int) -> list[Work]:
    """A request of many rows as several of at most `max_rows`."""
    return [
        work_of(work.signature, {name: array[at : at + max_rows] for name, array in work.inputs.items()}, work.rows)
        for at in range(0, rows_of(work.inputs), max_rows)
    ]


def join(parts: Sequence[Tensors]) -> Tensors:
    """The outputs of a request's pieces, as those of the request."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(outputs: Tensors, counts: Sequence[int], rows: int) -> list[Tensors]:
    """Each request's rows of a run of `rows`, in order. Raises InferenceFailed where the outputs have another number."""
    if len(counts) == 1 and counts[0] == rows:
        return [outputs]
    for name, array in outputs.items():
        if not array.ndim or len(array) != rows:
            raise InferenceFailed(f"output {name}: want a row for each of {rows}, got shape {list(array.shape)}")
    parts: list[Tensors] = []
    at = 0
    for count in counts:
        parts.append({name: array[at : at + count] for name, array in outputs.items()})
        at += count
    return parts


def _stack(arrays: list[Array], more: int) -> Array:
    """One below the other, then `more` copies of the last row; shorter ones are lengthened first."""
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        longest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        arrays = [_lengthen(array, longest) for array in arrays]
    if more:
        arrays = [*arrays, np.repeat(arrays[-1][-1:], more, axis=0)]
    return np.concatenate(arrays)


def _lengthen(array: Array, longest: tuple[int, ...]) -> Array:
    """With copies of its very first element behind each dimension, as TensorFlow Serving has it."""
    if array.shape[1:] == longest:
        return array
    padding = [(0, 0), *((0, want - have) for want, have in zip(longest, array.shape[1:], strict=True))]
    return np.pad(array, padding, constant_values=array.flat[0])
