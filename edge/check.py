"""`edge check`: the trial that the server would make of a version, from the command line.

Rule 1: the same child, the same limits, the same words as in the server. Rule 2: publishing calls it as a program, so
its JSON only grows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.backends.catalog import platform_of
from edge.core.own_options import own_options
from edge.core.trial_job import TrialLimits, TrialReport
from edge.core.trial_runner import run_trial
from edge.domain.errors import LoadError
from edge.domain.layout import MODEL_FILES, is_model_name, version_of
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.tensors import show_shape

FORMAT = "edge-check/1"
# Nobody waits to be served here, and TensorFlow takes its time before it looks at a model.
LIMITS = {Platform.TFLITE: TrialLimits(), Platform.SAVEDMODEL: TrialLimits(timeout_s=240.0)}


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """One version's trial. `artifact.id.version` is 0 for a path that names none: a file by itself."""

    artifact: Artifact
    report: TrialReport


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`passed_over`: models below the path that a server would not serve from there, with the reason."""

    versions: tuple[VersionCheck, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(one.report.ok for one in self.versions)

    def to_json(self) -> str:
        """For programs: format, ok, and per version its model, number, platform, path and the trial's report."""
        versions = [
            {
                "model": one.artifact.id.name,
                "version": one.artifact.id.version,
                "platform": one.artifact.platform.value,
                "path": str(one.artifact.path),
                **asdict(one.report),
            }
            for one in self.versions
        ]
        return json.dumps(
            {"format": FORMAT, "ok": self.ok, "versions": versions, "passed_over": list(self.passed_over)}
        )

    def to_text(self) -> str:
        """For people."""
        tried = [line for one in self.versions for line in _lines(one)]
        return "\n".join([*tried, *(f"not served: {each}" for each in self.passed_over)])


def check(
    path: Path,
    options: ModelOptions | None = None,
    limits: TrialLimits | None = None,
    *,
    timeout_s: float | None = None,
) -> CheckReport:
    """Tries every version at `path`: a model file, a version's directory, a model's, or a whole model directory.

    One after the other, each in its own process. `limits`: None for those of its platform, with `timeout_s` if given.
    Raises LoadError when there is no version at all.
    """
    artifacts, passed_over = list(find_versions(path)), tuple(find_passed_over(path))
    if not artifacts:
        want = f"{path}: want a .tflite file, or a directory with model.tflite or saved_model.pb, or versions of such"
        raise LoadError("; ".join([want, *passed_over]))
    bounds = {each: _limits(each, limits, timeout_s) for each in Platform}
    tried = asyncio.run(_check(artifacts, options or ModelOptions(), bounds))
    return CheckReport(tried, passed_over)


def find_versions(path: Path) -> Iterator[Artifact]:
    """In ascending order, model by model."""
    if artifact := _version(path):
        yield artifact
        return
    for child in _versions_in(path) or sorted(
        child for child in _directories(path) if is_model_name(child.name) and _versions_in(child)
    ):
        yield from find_versions(child)


def find_passed_over(path: Path) -> Iterator[str]:
    """What holds a model and is none to a server that is given `path`: its directory's name is not what it must be."""
    if _version(path):
        return
    versions = bool(_versions_in(path))
    for child in sorted(_directories(path)):
        if versions:
            if version_of(child.name) is None and platform_of(child):
                yield f"{child}: want a version's number for its name"
        elif not is_model_name(child.name):
            if platform_of(child) or _versions_in(child):
                yield f"{child}: want a model's name: letters, digits, _ . -"
        elif _versions_in(child):
            yield from find_passed_over(child)
        elif model := platform_of(child):
            file = next(name for name, platform in MODEL_FILES.items() if platform is model)
            yield f"{child}: want a directory for each version, as in {child.name}/1/{file}"


def _versions_in(path: Path) -> list[Path]:
    """The directories that are versions to the server, in the order of their numbers."""
    found = [(number, child) for child in _directories(path) if (number := version_of(child.name)) is not None]
    return [child for _, child in sorted(found)]


def _limits(platform: Platform, limits: TrialLimits | None, timeout_s: float | None) -> TrialLimits:
    chosen = limits or LIMITS[platform]
    return chosen if timeout_s is None else replace(chosen, timeout_s=timeout_s)


def _version(path: Path) -> Artifact | None:
    platform = platform_of(path)
    if platform is None:
        return None
    path = path.resolve()
    number = version_of(path.name)
    if number is not None:
        return Artifact(ModelId(path.parent.name, number), platform, path)
    return Artifact(ModelId(path.stem if path.is_file() else path.name, 0), platform, path)


def _directories(path: Path) -> list[Path]:
    try:
        return [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:
        return []


async def _check(
    artifacts: list[Artifact], options: ModelOptions, bounds: Mapping[Platform, TrialLimits]
) -> tuple[VersionCheck, ...]:
    return tuple([VersionCheck(one, await _try(one, options, bounds[one.platform])) for one in artifacts])


async def _try(artifact: Artifact, options: ModelOptions, limits: TrialLimits) -> TrialReport:
    try:
        options = await asyncio.to_thread(own_options, artifact, options)
    except LoadError as error:
        return TrialReport(False, str(error))
    return await run_trial(artifact, options, limits)


def _lines(one: VersionCheck) -> Iterator[str]:
    artifact, report = one.artifact, one.report
    verdict = "ok" if report.ok else f"FAILED: {report.reason}"
    name = artifact.id.name if version_of(artifact.path.name) is None else artifact.id
    yield f"{name} ({artifact.platform.value}, {artifact.path}): {verdict}"
    if report.notice:
        yield f"  {report.notice}"
    for name, signature in report.signatures.items():
        yield f"  {name}: {_tensors(signature['inputs'])} → {_tensors(signature['outputs'])}"
    if report.run_s:
        tested = f"{report.runs} golden runs" if report.runs else "no golden.npz, ran on zeros"
        yield (
            f"  {tested}; {report.run_s * 1e3:.3g} ms a run, {report.first_run_s * 1e3:.3g} ms the first, "
            f"{report.load_s * 1e3:.3g} ms to load, {report.model_bytes / 2**20:.1f} MiB"
        )
    for name in report.non_finite:
        yield f"  output {name} has values that are not finite"


def _tensors(specs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {spec['dtype']} {show_shape(spec['shape'])}" for name, spec in specs.items())
