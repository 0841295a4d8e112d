"""The first runs of a version that was loaded: its self-test, and what follows from what its runs take.

How it is run (`edge.core.plan`), whether requests share runs (`edge.core.batch_plan`), and as many more instances as that asks for.
Rule 1: it holds the device's lock while it measures. Rule 2: of the instances that it loads none is left behind when it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

from edge.core.class_names import doubt_names, read_class_names
from edge.core.golden import Golden, load_golden
from edge.core.lanes import LanePlan
from edge.core.memory import return_memory
from edge.core.selftest import SelfTestReport, breather, selftest, warm_up
from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelOptions
from edge.domain.ports import LoadedModel

if TYPE_CHECKING:
    from edge.core.batch import Batching

Plan = Callable[[LoadedModel, ModelOptions, float], LanePlan]
"""From the seconds that a run takes."""


class Tested(NamedTuple):
    """`rest`: the instances beside the first. `names`: of the classes."""

    report: SelfTestReport
    plan: LanePlan
    rest: list[LoadedModel]
    names: tuple[str, ...]
    batching: Batching | None


def first_runs(
    artifact: Artifact,
    options: ModelOptions,
    first: LoadedModel,
    *,
    lock: AbstractContextManager[object],
    plan: Plan,
    gently: bool,
) -> Tested:
    """Run the golden vectors, and load as many more instances as the run time asks for. Blocks. Raises LoadError.

    `lock`: the device's, taken more than once. `gently`: something is being served meanwhile.
    """
    pause = breather() if gently else lambda took: None
    with lock:
        report = selftest(first, _golden(artifact), rest=pause)
    if not report.ok:
        raise LoadError(f"self-test: {report.reason}")
    lanes = plan(first, options, report.run_s)
    names = read_class_names(artifact.file("labels.txt"))
    doubt_names(artifact.id, first, names)
    batching = None
    if first.max_batch > 1 and any(each.batches for each in first.signatures.values()):
        from edge.core.batch_plan import plan_batching  # a server of models for one row starts without it

        with lock:
            batching = plan_batching(first, options, artifact.platform, lanes, name=str(artifact.id), rest=pause)
    rest = _more(first, max(1, lanes.threads + bool(lanes.inline_elements)) - 1)
    return_memory()  # of what was needed for loading only
    return Tested(report, lanes, rest, names, batching)


def _more(first: LoadedModel, count: int) -> list[LoadedModel]:
    """So many more instances. Raises LoadError."""
    rest: list[LoadedModel] = []
    try:
        for _ in range(count):
            rest.append(first.another())
            warm_up(rest[-1])
    except BaseException:
        for model in rest:
            model.close()
        raise
    return rest


def _golden(artifact: Artifact) -> Golden | None:
    path = artifact.file("golden.npz")
    return load_golden(path) if path.exists() else None
