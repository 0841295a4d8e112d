"""Does a loaded version compute what it should, and how fast?

Rule 1: golden vectors decide where there are any; else every signature must survive zeros, save one that refuses them as
no input of its own: what strings should hold, and how large what is free must be, only golden vectors know.
Rule 2: a report, never an exception: what fails is the version. Rule 3: no clock but the one handed in, and no
bound on a run: whoever calls this may have to kill it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge.core.golden import Golden
from edge.domain.errors import EdgeError, InvalidInput, LoadError
from edge.domain.ports import DeviceLost, LoadedModel
from edge.domain.requests import default_signature
from edge.domain.tensors import Array, DType, Signature, Tensors, TensorSpec, show_shape

WARM_RUNS = 20
WARM_BUDGET_S = 0.5
"""At least one warm run is timed, and no further one after this much."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.002, 0.1


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """`run_s` is the slowest signature's median warm run, `first_run_s` the longest first one; seconds.

    `runs` counts the golden runs, 0 for zeros. `non_finite` names outputs with a NaN or an infinity in any run.
    """

    ok: bool
    reason: str = ""
    run_s: float = 0.0
    first_run_s: float = 0.0
    runs: int = 0
    non_finite: tuple[str, ...] = ()


class _Failed(Exception):
    pass


def selftest(
    model: LoadedModel,
    golden: Golden | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = lambda took: None,
) -> SelfTestReport:
    """Runs the model on its golden inputs, or on zeros. Blocks for as long as the model does.

    `rest` is called after each run with the seconds that it took: where requests are being answered meanwhile, to
    leave them a part of the processor.
    """
    test = _Test(model, clock, rest)
    try:
        if golden is None:
            for signature in model.signatures.values():
                test.survive(signature)
        else:
            test.check(default_signature(model.signatures), golden)
    except _Failed as error:
        return test.report(str(error), golden)
    return test.report("", golden)


def warm_up(model: LoadedModel) -> None:
    """What the first run of an interpreter prepares, no request should wait for. Raises LoadError."""
    for signature in model.signatures.values():
        try:
            model.run(signature.name, zeros(signature))
        except (EdgeError, DeviceLost) as error:
            if not (guessed(signature) and isinstance(error, InvalidInput)):
                raise LoadError(f"signature {signature.name} fails: {error}") from None


def guessed(signature: Signature) -> bool:
    """Whether its zeros may be no input that it could have: texts, and sizes beside the batch's that are free."""
    return any(
        spec.dtype is DType.STRING or spec.shape is None or -1 in spec.shape[1:] for spec in signature.inputs.values()
    )


def breather() -> Callable[[float], None]:
    """Pauses as long as the work took, up to MAX_PAUSE_S; after many short runs once for all of them.

    A sleep takes some 60 µs whatever is asked for, which is many times what a tiny model runs.
    """
    owed = 0.0

    def breathe(took_s: float) -> None:
        nonlocal owed
        owed += took_s
        if owed >= MIN_PAUSE_S:
            time.sleep(min(owed, MAX_PAUSE_S))
            owed = 0.0

    return breathe


def zeros(signature: Signature) -> dict[str, Array]:
    """An input of zeros, every free dimension at 1; empty strings."""
    return {name: _zero(spec) for name, spec in signature.inputs.items()}


def _zero(spec: TensorSpec) -> Array:
    shape = [max(size, 1) if size < 0 else size for size in spec.shape or ()]
    return np.full(shape, b"", object) if spec.dtype is DType.STRING else np.zeros(shape, spec.dtype.numpy)


class _Refused(_Failed):
    """The model says that this is no input for it."""


class _Test:
    """Runs, and remembers times and what was not finite."""

    def __init__(self, model: LoadedModel, clock: Callable[[], float], rest: Callable[[float], None]) -> None:
        self.model, self.clock, self.rest = model, clock, rest
        self.run_s = self.first_run_s = 0.0
        self.non_finite: dict[str, None] = {}

    def report(self, reason: str, golden: Golden | None) -> SelfTestReport:
        runs = golden.runs if golden else 0
        return SelfTestReport(not reason, reason, self.run_s, self.first_run_s, runs, tuple(self.non_finite))

    def survive(self, signature: Signature) -> None:
        """Zeros. Raises _Failed."""
        try:
            self.measure(signature, [zeros(signature)])
        except _Refused:
            if not guessed(signature):
                raise

    def measure(self, signature: Signature, inputs: list[dict[str, Array]]) -> list[Tensors]:
        """Each input once, then warm runs over them all in turn; the outputs of the first round."""
        outputs = [self._run(signature, one) for one in inputs]
        self.first_run_s = max(self.first_run_s, outputs[0][1])
        times: list[float] = []
        while not times or (len(times) < WARM_RUNS and sum(times) < WARM_BUDGET_S):
            times.append(self._run(signature, inputs[len(times) % len(inputs)])[1])
        self.run_s = max(self.run_s, sorted(times)[len(times) // 2])
        return [tensors for tensors, _ in outputs]

    def check(self, signature: Signature, golden: Golden) -> None:
        """Raises _Failed at the first thing that is wrong."""
        _check_inputs(signature, golden)
        answers = self.measure(signature, [golden.input(run) for run in range(golden.runs)])
        for name, wanted in golden.outputs.items():
            if name not in signature.outputs:
                raise _Failed(f"golden output {name}: no such output; the model has {', '.join(signature.outputs)}")
            _compare(name, wanted, [answer[name] for answer in answers], golden)
        if golden.max_ms and self.run_s * 1e3 > golden.max_ms:
            raise _Failed(f"a run takes {self.run_s * 1e3:.3g} ms, want at most {golden.max_ms:.3g} ms")

    def _run(self, signature: Signature, inputs: Mapping[str, Array]) -> tuple[Tensors, float]:
        start = self.clock()
        try:
            outputs = self.model.run(signature.name, inputs)
        except InvalidInput as error:
            raise _Refused(f"signature {signature.name} fails: {error}") from None
        except (EdgeError, DeviceLost) as error:
            raise _Failed(f"signature {signature.name} fails: {error}") from None
        took = self.clock() - start
        self.rest(took)
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                self.non_finite[name] = None
        return outputs, took


def _check_inputs(signature: Signature, golden: Golden) -> None:
    if missing := [name for name in signature.inputs if name not in golden.inputs]:
        raise _Failed(f"golden inputs: want {', '.join(signature.inputs)}; missing {', '.join(missing)}")
    for name, stacked in golden.inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            raise _Failed(f"golden input {name}: no such input; the model has {', '.join(signature.inputs)}")
        if stacked.dtype != spec.dtype.numpy or not spec.admits(stacked.shape[1:]):
            raise _Failed(f"golden input {name}: want {spec}, got {stacked.dtype} {show_shape(stacked.shape[1:])}")


def _compare(name: str, wanted: Array, got: list[Array], golden: Golden) -> None:
    """`min_match` of the elements of an output, over all runs, must lie within the tolerances."""
    off = total = 0
    first = ""
    for run, (want, have) in enumerate(zip(wanted, got, strict=True)):
        if want.shape != have.shape:
            raise _Failed(f"output {name}, run {run}: want {show_shape(want.shape)}, got {show_shape(have.shape)}")
        wrong = ~_close(have, want, golden)
        off, total = off + int(wrong.sum()), total + want.size
        if not first and wrong.any():
            at = tuple(int(axis[0]) for axis in np.nonzero(wrong))
            first = f"first in run {run} at {list(at)}: want {want[at]!s}, got {have[at]!s}"
    if total - off < golden.min_match * total:
        allowed = f"within {golden.atol:g} + {golden.rtol:g}·|want|"
        raise _Failed(
            f"output {name}: {off} of {total} elements are not {allowed} (want {golden.min_match:.4g} to match); {first}"
        )


def _close(have: Array, want: Array, golden: Golden) -> Array:
    """NaN where NaN is wanted is right. Integers go through float64, so that uint8 does not wrap around."""
    if want.dtype.kind in "OSUb" or have.dtype.kind in "OSUb":
        return np.asarray(have == want)
    with np.errstate(all="ignore"):
        return np.isclose(have.astype(np.float64), want.astype(np.float64), golden.rtol, golden.atol, equal_nan=True)
