"""Whether a version's requests may share runs is found out when it is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from edge.backends.tflite import TfliteBackend
from edge.core.batch_plan import AUTO_ROWS, PROBE_BUDGET_S, plan_batching
from edge.core.lanes import LanePlan
from edge.domain.errors import InferenceFailed, InvalidInput
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.ports import LoadedModel
from edge.domain.tensors import DType, Signature, Tensors, TensorSpec
from tests import tflite_models
from tests.fakes.tflite import FakeBackend, times_version

THREADS = LanePlan(threads=1)
TFLITE, SAVEDMODEL = Platform.TFLITE, Platform.SAVEDMODEL


class Clock:
    """Each look at it takes as long as the last run is said to cost."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self.cost, self.now = cost, 0.0

    def model(self, run: Callable[[ModelId, str, Tensors], Tensors] = times_version, **more: object) -> LoadedModel:
        def timed(id: ModelId, signature: str, inputs: Tensors) -> Tensors:
            self.now += self.cost(len(next(iter(inputs.values()))))
            return run(id, signature, inputs)

        backend = FakeBackend(run=timed, **more)  # type: ignore[arg-type]
        return backend.load(Artifact(ModelId("m", 1), TFLITE, Path("/nowhere")), ModelOptions())

    def __call__(self) -> float:
        return self.now


def free(_rows: int) -> float:
    return 0.001


def each(rows: int) -> float:
    return 0.001 * rows


def planned(clock: Clock, model: LoadedModel, platform: Platform, **options: object) -> int:
    """Rows that may share a run; 0 for none."""
    found = plan_batching(model, ModelOptions(**options), platform, THREADS, clock=clock)  # type: ignore[arg-type]
    return found.limits.max_rows if found else 0


@pytest.mark.parametrize(("cost", "rows"), [(free, AUTO_ROWS), (each, 0)])
def test_a_tflite_model_shares_runs_where_it_gains_by_it(cost: Callable[[int], float], rows: int) -> None:
    clock = Clock(cost)
    assert planned(clock, clock.model(), TFLITE) == rows


def test_what_resizing_costs_counts() -> None:
    last = itertools.count()
    seen = [1]

    def resizing(rows: int) -> float:
        changed, seen[0] = rows != seen[0], rows
        next(last)
        return 0.001 + 0.010 * changed

    clock = Clock(resizing)
    assert planned(clock, clock.model(), TFLITE) == 0


@pytest.mark.parametrize(
    ("run", "tflite", "savedmodel"),
    [
        (lambda id, _, inputs: {"y": inputs["x"] * 1.5}, AUTO_ROWS, AUTO_ROWS),
        (lambda id, _, inputs: {"y": inputs["x"] * np.float32(1 + 1e-4 * (len(inputs["x"]) > 1))}, 0, AUTO_ROWS),
        (lambda id, _, inputs: {"y": inputs["x"] - inputs["x"].mean()}, 0, 0),
        (lambda id, _, inputs: {"y": inputs["x"].sum(keepdims=True)}, 0, 0),
        (lambda id, _, inputs: {"y": inputs["x"] * np.float32(next(NUMBERS))}, 0, 0),
    ],
    ids=["the same", "rounded otherwise", "rows depend on each other", "another number of rows", "never the same"],
)
def test_who_answers_otherwise_in_company_has_none(
    run: Callable[[ModelId, str, Tensors], Tensors], tflite: int, savedmodel: int
) -> None:
    for platform, rows in ((TFLITE, tflite), (SAVEDMODEL, savedmodel)):
        clock = Clock(free)
        assert planned(clock, clock.model(run), platform) == rows


NUMBERS: Iterator[int] = itertools.count(1)


def test_who_is_told_to_share_runs_does_whatever_was_measured(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(each)
    model = clock.model(lambda id, _, inputs: {"y": inputs["x"] - inputs["x"].mean()})
    assert planned(clock, model, TFLITE, max_batch_size=16) == 16
    assert "answers otherwise when requests share a run" in caplog.text
    assert planned(clock, model, TFLITE, allowed_batch_sizes=(2, 4)) == 4
    assert planned(clock, model, TFLITE, max_batch_size=5_000) == model.max_batch
    assert planned(clock, model, TFLITE, max_batch_size=1) == 0


def test_a_model_without_a_free_first_dimension_has_nothing_to_share() -> None:
    fixed = Signature(
        "serving_default",
        MappingProxyType({"x": TensorSpec("x", DType.FLOAT32, (1, 2))}),
        MappingProxyType({"y": TensorSpec("y", DType.FLOAT32, (1, 2))}),
    )
    clock = Clock(free)
    assert planned(clock, clock.model(signature=fixed), SAVEDMODEL, max_batch_size=8) == 0


@pytest.mark.parametrize("error", [InvalidInput("no"), InferenceFailed("no")])
def test_a_model_that_refuses_what_it_is_tried_with_is_taken_at_its_word(error: Exception) -> None:
    clock = Clock(free)

    def refuse(*_: object) -> Tensors:
        raise error

    assert planned(clock, clock.model(refuse), SAVEDMODEL) == AUTO_ROWS
    assert planned(clock, clock.model(refuse), TFLITE) == 0


def test_a_model_that_fails_with_many_rows_shares_none() -> None:
    def one(id: ModelId, signature: str, inputs: Tensors) -> Tensors:
        if len(inputs["x"]) > 1:
            raise InferenceFailed("one at a time")
        return times_version(id, signature, inputs)

    clock = Clock(free)
    assert planned(clock, clock.model(one), SAVEDMODEL) == 0


def test_finding_out_is_bounded_in_time() -> None:
    for run_s, bound in ((0.001, PROBE_BUDGET_S), (0.04, PROBE_BUDGET_S + 8 * 0.04), (1.0, 10.0)):
        clock = Clock(lambda rows, run_s=run_s: run_s * rows)  # type: ignore[misc]  # its default is what the loop has now
        assert planned(clock, clock.model(), SAVEDMODEL) == AUTO_ROWS
        assert clock.now <= bound * 2


def test_what_runs_on_the_event_loop_in_any_case_is_not_even_tried() -> None:
    clock = Clock(free)
    tiny = LanePlan(threads=1, inline_elements=10, inline_always=True)
    assert plan_batching(clock.model(), ModelOptions(), TFLITE, tiny, clock=clock) is None
    assert clock.now == 0.0


def test_a_real_tflite_model_computes_the_same_in_company(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_models.scaling(3.0, (-1, 4)))
    model = TfliteBackend().load(Artifact(ModelId("m", 1), TFLITE, path), ModelOptions())
    found = plan_batching(model, ModelOptions(max_batch_size=8), TFLITE, THREADS)
    assert found is not None
    assert found.times.run_s(8) > 0.0
    model.close()
