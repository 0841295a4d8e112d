"""Whether a version's requests may share runs, and up to how many rows: found out when it is loaded.

Rule 1: who says how many rows (`max_batch_size`, `allowed_batch_sizes`) is believed; else a SavedModel with a free first dimension
does, and a TFLite model that computes the same for a row in company, bit for bit, and saves time by it, resizing included.
Rule 2: a model whose rows change each other's answers does not unless it was told to; then that is logged.
Rule 3: what it costs at load is bounded. Figures: docs/adr/0020-batching.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edge.core.batch import Batching
from edge.core.batcher import Limits
from edge.core.lanes import LanePlan
from edge.core.run_times import RunTimes
from edge.core.selftest import zeros
from edge.domain.errors import EdgeError
from edge.domain.models import ModelOptions, Platform
from edge.domain.ports import DeviceLost, LoadedModel
from edge.domain.tensors import Array, DType, Signature, Tensors, TensorSpec

log = logging.getLogger(__name__)

AUTO_ROWS = 64
"""At most so many rows share a run, where nobody says how many."""
PROBE_ROWS = 8
PROBE_RUNS = 4
SLOW_RUN_S = 0.05
"""Of a model whose run takes longer, two rows are tried together and not PROBE_ROWS."""
PROBE_BUDGET_S = 0.5
"""Rows are compared and every kind of run is timed once, and no further one after this much."""
WORTH = 0.8
"""A TFLite model's row has to take at most so much in company of what it takes alone."""
RTOL, ATOL_OF_LARGEST = 1e-2, 1e-3
"""How far the outputs of a SavedModel may differ in company: kernels for many rows add up in another order."""

Rest = Callable[[float], None]


class Probe(NamedTuple):
    """`same`: whether rows in company have the outputs that they have alone, None where that could not be seen; `equal`: bit for
    bit. Seconds of a run of one row and of `rows`."""

    same: bool | None
    equal: bool = False
    one_s: float = 0.0
    many_s: float = 0.0
    rows: int = PROBE_ROWS

    @property
    def pays(self) -> bool:
        return self.many_s / self.rows <= WORTH * self.one_s


def plan_batching(
    model: LoadedModel,
    options: ModelOptions,
    platform: Platform,
    lanes: LanePlan,
    *,
    name: str = "",
    rest: Rest = lambda took: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Batching | None:
    """None where each request is a run of its own. Blocks. `rest` is called after each run with the seconds that it took."""
    wanted = options.max_batch_size or max(options.allowed_batch_sizes, default=0)
    most = min(wanted or AUTO_ROWS, model.max_batch)
    if most <= 1 and not options.allowed_batch_sizes:
        return None
    if not wanted and (lanes.inline_always or not lanes.threads):
        return None  # a run costs less than to wait for anybody
    times = RunTimes(most)
    names = set()
    for signature in model.signatures.values():
        if not signature.batches:
            continue
        probe = _probe(model, signature, clock, rest)
        if wanted and probe.same is False:
            log.warning("%s: signature %s answers otherwise when requests share a run", name, signature.name)
        if wanted or _may(probe, platform):
            names.add(signature.name)
            _teach(times, probe)
    if not names:
        return None
    allowed = tuple(size for size in options.allowed_batch_sizes if size <= most)
    if not wanted:
        # Runtimes prepare each new size: 52 convolutions in 64 sizes are more than oneDNN keeps.
        allowed = tuple(1 << power for power in range(most.bit_length()))
    limits = Limits(most, options.batch_timeout_s, not wanted, allowed, options.pad_variable_length_inputs)
    return Batching(limits, frozenset(names), times, most if wanted else 0)


def _may(probe: Probe, platform: Platform) -> bool:
    if platform is Platform.TFLITE:
        return probe.equal and probe.pays
    return probe.same is not False


def _teach(times: RunTimes, probe: Probe) -> None:
    if probe.same:
        for _ in range(PROBE_RUNS):
            times.observe(1, probe.one_s)
            times.observe(probe.rows, probe.many_s)


def _probe(model: LoadedModel, signature: Signature, clock: Callable[[], float], rest: Rest) -> Probe:
    """Two rows alone and among others, several times; one run of many follows one of one, so that resizing is in its time."""
    if model.max_batch < PROBE_ROWS:
        return Probe(None)
    run = _Timed(model, signature, clock, rest)
    for usual in (True, False):
        rows = _rows(signature, usual=usual)
        try:
            alone = [run(row)[0] for row in rows]
        except (EdgeError, DeviceLost):
            continue  # no input that it could have
        try:
            return _compare(run, rows, alone)
        except (EdgeError, DeviceLost):
            return Probe(same=False)
    return Probe(None)


class _Timed:
    """Runs of one signature: outputs, and seconds."""

    def __init__(self, model: LoadedModel, signature: Signature, clock: Callable[[], float], rest: Rest) -> None:
        self._model, self._signature, self._clock, self._rest = model, signature, clock, rest
        self.spent_s = 0.0

    def __call__(self, inputs: Tensors) -> tuple[Tensors, float]:
        """Raises as LoadedModel.run."""
        start = self._clock()
        outputs = self._model.run(self._signature.name, inputs)
        took = self._clock() - start
        self.spent_s += took
        self._rest(took)
        return outputs, took


def _compare(run: _Timed, rows: list[Tensors], alone: list[Tensors]) -> Probe:
    """Raises as LoadedModel.run."""
    first, second = rows
    count = PROBE_ROWS if run.spent_s <= 2 * SLOW_RUN_S else 2
    many = {name: np.concatenate([first[name], second[name]] * (count // 2)) for name in first}
    outputs, _ = run(many)
    again, _ = run(first)
    apart = _rows_of(outputs, count)
    if apart is None or not _all(_equal, again, alone[0]):
        return Probe(same=False)
    pairs = [(row, alone[at % 2]) for at, row in enumerate(apart)]
    equal = all(_all(_equal, *pair) for pair in pairs)
    same = equal or all(_all(_close, *pair) for pair in pairs)
    ones: list[float] = [run(first)[1]]
    manies: list[float] = []
    while not manies or (len(manies) < PROBE_RUNS and run.spent_s < PROBE_BUDGET_S):
        manies.append(run(many)[1])
        run(first)  # sized for one row again
        ones.append(run(second)[1])
    return Probe(same, equal, sorted(ones)[len(ones) // 2], sorted(manies)[len(manies) // 2], count)


def _rows_of(outputs: Tensors, count: int) -> list[Tensors] | None:
    if any(not array.ndim or len(array) != count for array in outputs.values()):
        return None
    return [{name: array[at : at + 1] for name, array in outputs.items()} for at in range(count)]


def _all(alike: Callable[[Array, Array], bool], these: Tensors, those: Tensors) -> bool:
    return all(these[name].shape == array.shape and alike(these[name], array) for name, array in those.items())


def _equal(these: Array, those: Array) -> bool:
    return bool(np.array_equal(these, those, equal_nan=these.dtype.kind == "f"))


def _close(these: Array, those: Array) -> bool:
    if those.dtype.kind != "f":
        return _equal(these, those)
    finite = np.abs(those[np.isfinite(those)])
    largest = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(these, those, rtol=RTOL, atol=ATOL_OF_LARGEST * largest, equal_nan=True))


def _rows(signature: Signature, *, usual: bool) -> list[Tensors]:
    """Two inputs of one row. `usual`: they differ, with values that most models take."""
    if not usual:
        return [zeros(signature), zeros(signature)]
    random = np.random.default_rng(0)
    return [{name: _row(spec, random) for name, spec in signature.inputs.items()} for _ in range(2)]


def _row(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = [max(size, 1) if size < 0 else size for size in spec.shape or ()]
    if spec.dtype is DType.STRING:
        return np.full(shape, b"", object)
    if spec.dtype.numpy.kind == "f":
        return random.random(shape).astype(spec.dtype.numpy)
    # Pictures and quantized numbers use their whole range; wider integers are often indices, and small ones exist.
    top = 128 if spec.dtype.numpy.itemsize == 1 and spec.dtype is not DType.BOOL else 2
    return random.integers(0, top, shape).astype(spec.dtype.numpy)
