"""A backend without a runtime: what it should do is said when it is made, what it did is recorded.

Rule 1: it keeps the promises of `edge.domain.ports`, and says so loudly (AssertionError) when its caller breaks one:
a model run by two callers at once, or after its close. Rule 2: nothing waits for ever; a hang ends after `HANG_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelId, ModelOptions
from edge.domain.tensors import DType, Signature, Tensors, TensorSpec

HANG_S = 30.0

Run = Callable[[ModelId, str, Tensors], Tensors]


def scaling_signature(name: str = "serving_default") -> Signature:
    """`x` float32 [?] → `y` float32 [?]: any number of rows of one number each."""
    x, y = TensorSpec("x", DType.FLOAT32, (-1,)), TensorSpec("y", DType.FLOAT32, (-1,))
    return Signature(name, MappingProxyType({"x": x}), MappingProxyType({"y": y}))


def times_version(id: ModelId, _signature: str, inputs: Tensors) -> Tensors:
    """The first input times the version, as `y`: an answer tells which version gave it."""
    return {"y": next(iter(inputs.values())) * id.version}


@dataclass
class FakeBackend:
    """Loads anything. Versions in `failing` do not load.

    `errors` are raised by a version's runs (InferenceFailed, DeviceLost, a bug); tests may change it at any time.
    `delay_s` is slept in each run and `load_delay_s` in each load. `hang`: a run of a version in it waits for its
    event; `load_hang` the same for a load. `lost`: device names on which every load fails. `memory` is bytes for
    each instance, or a version's own. `device` is reported in place of the one that the options ask for.
    """

    failing: Collection[int] = ()
    delay_s: float = 0.0
    load_delay_s: float = 0.0
    run: Run = times_version
    signature: Signature = field(default_factory=scaling_signature)
    signatures: Mapping[str, Signature] | None = None
    memory: int | Mapping[int, int] = 1_000
    max_batch: int = 1_024
    device: str = ""
    notice: str = ""
    may_run_long: bool = False
    errors: dict[int, Exception] = field(default_factory=dict)
    hang: dict[int, threading.Event] = field(default_factory=dict)
    load_hang: dict[int, threading.Event] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    loads: list[ModelId] = field(default_factory=list)
    load_options: list[ModelOptions] = field(default_factory=list)
    closes: list[ModelId] = field(default_factory=list)
    runs: list[tuple[ModelId, int]] = field(default_factory=list)
    models: list[FakeModel] = field(default_factory=list)

    def memory_bytes(self, artifact: Artifact) -> int:
        version = artifact.id.version
        return self.memory if isinstance(self.memory, int) else self.memory.get(version, 1_000)

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        """Recorded in `loads` before anything else happens, also when it then fails."""
        self.loads.append(artifact.id)
        self.load_options.append(options)
        _wait(self.load_hang.get(artifact.id.version))
        time.sleep(self.load_delay_s)
        if artifact.id.version in self.failing:
            raise LoadError(f"{artifact.id}: told to fail")
        if options.device in self.lost:
            raise LoadError(f"{artifact.id}: no device {options.device}")
        model = FakeModel(self, artifact, options)
        self.models.append(model)
        return model

    def apart(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        return self.load(artifact, options)

    @property
    def alive(self) -> list[ModelId]:
        """Instances loaded and not closed."""
        return [model.id for model in self.models if not model.closed]


class FakeModel:
    """One instance of a version, as `FakeBackend` was told to make it."""

    def __init__(self, backend: FakeBackend, artifact: Artifact, options: ModelOptions) -> None:
        self.id = artifact.id
        self.signatures = backend.signatures or MappingProxyType({backend.signature.name: backend.signature})
        self.max_batch = backend.max_batch
        self.device = backend.device or options.device
        self.notice = backend.notice
        self.may_run_long = backend.may_run_long
        self.closed = False
        self._backend, self._artifact, self._options = backend, artifact, options
        self._busy = threading.Lock()

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """Recorded in the backend's `runs` as (id, rows)."""
        assert not self.closed, f"{self.id}: run after close"
        assert signature in self.signatures, f"{self.id}: no signature {signature!r}"
        assert self._busy.acquire(blocking=False), f"{self.id}: two callers at once"
        try:
            first = next(iter(inputs.values()), None)
            self._backend.runs.append((self.id, first.shape[0] if first is not None and first.ndim else 1))
            _wait(self._backend.hang.get(self.id.version))
            if self._backend.delay_s:
                time.sleep(self._backend.delay_s)
            if error := self._backend.errors.get(self.id.version):
                raise error
            return self._backend.run(self.id, signature, inputs)
        finally:
            self._busy.release()

    def another(self) -> FakeModel:
        return self._backend.load(self._artifact, self._options)

    def close(self) -> None:
        assert not self._busy.locked(), f"{self.id}: closed while it runs"
        if not self.closed:
            self.closed = True
            self._backend.closes.append(self.id)


def _wait(event: threading.Event | None) -> None:
    if event is not None:
        assert event.wait(HANG_S), "nobody ended the hang"
