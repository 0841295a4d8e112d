"""What the core asks of the world, and what the world may ask of the core.

Rule: a port promises its errors. An implementation lets nothing else out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge.domain.lifecycle import State
from edge.domain.models import Artifact, Aspired, ModelId, ModelOptions, ModelSpec
from edge.domain.requests import ModelInfo, PredictRequest, PredictResponse
from edge.domain.tensors import Signature, Tensors

if TYPE_CHECKING:
    from edge.domain.routing import RoutingStatus


class LoadedModel(Protocol):
    """Computes; owns no life cycle.

    `device` is where it really runs, `notice` why that is not where it was asked to run (else empty).
    `max_batch` bounds the leading dimension of one run. `may_run_long` is set when a run's time does not
    follow from its input's size (loops in the graph).
    """

    signatures: Mapping[str, Signature]
    max_batch: int
    device: str
    notice: str
    may_run_long: bool

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """Named outputs, owned by the caller. Blocks; one caller at a time.

        Inputs have been checked against the signature. Raises InferenceFailed, and DeviceLost when the
        accelerator is gone.
        """
        ...

    def another(self) -> LoadedModel:
        """One more instance of the very same model, whatever has become of its files; on the CPU only.

        Blocks. Raises LoadError.
        """
        ...

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        ...


@runtime_checkable
class Apart(Protocol):
    """A model that computes in a process of its own, which may end before the server does; it is started again by itself."""

    def watch(self, broken: Callable[[str], None]) -> None:
        """`broken(why)` is called, in any thread, when it has ended too often to be started again."""
        ...

    def memory(self) -> Memory:
        """Of that process."""
        ...


class Memory(Protocol):
    """Resident bytes: the most there ever were, and how many of them the model brought."""

    @property
    def peak_bytes(self) -> int: ...
    @property
    def model_bytes(self) -> int: ...


class DeviceLost(Exception):
    """The accelerator that a model runs on no longer answers. The message names the device."""


class Backend(Protocol):
    """Knows one platform."""

    def memory_bytes(self, artifact: Artifact) -> int:
        """What holding one instance will cost, roughly. Raises LoadError."""
        ...

    def load(self, artifact: Artifact, options: ModelOptions) -> LoadedModel:
        """One instance, ready to run. Blocks. Raises LoadError only."""
        ...

    def apart(self, artifact: Artifact, options: ModelOptions) -> LoadedModel:
        """One instance, in a process of its own that whatever else wants the processor goes before: what becomes of it is
        nobody else's matter. Blocks. Raises LoadError only."""
        ...


class Keepsakes(Protocol):
    """What is known again after a restart, by key. Blocks; never raises: a full disk costs the memory of it, and is logged."""

    def recall(self, key: str) -> bytes | None: ...
    def keep(self, key: str, data: bytes) -> None:
        """Durably, in place of what was kept under the key."""
        ...


class Source(Protocol):
    """Says what is aspired."""

    def watch(self) -> AsyncIterator[Sequence[Aspired]]:
        """Whole wishes, one for each model that has changed; the first time all that there is, were it nothing."""
        ...


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version, for people, metrics and the agent. Times in seconds; `since`, when it came into its state, is a
    Unix time.

    `total_…` count and add up since the process first loaded the version, the others over the last minute; failures and answers
    that are not finite are the version's own, never a client's fault, a full queue or a cancelled call. `total_unserved`: all
    that the server owed an answer, those that were late or found no room among them.
    """

    id: ModelId
    state: State
    reason: str = ""
    device: str = ""
    notice: str = ""
    since: float = 0.0
    requests: int = 0
    failures: int = 0
    non_finite: int = 0
    run_p50_s: float = 0.0
    run_p99_s: float = 0.0
    queue_depth: int = 0
    total_requests: int = 0
    total_answered: int = 0
    total_failures: int = 0
    total_non_finite: int = 0
    total_unserved: int = 0
    total_answered_s: float = 0.0
    total_queue_s: float = 0.0
    total_run_s: float = 0.0
    total_failures_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """`versions` in descending order. `problem` is what is wrong with the newest wish, if anything; `routing` is
    there where the configuration has weights or a shadow."""

    name: str
    versions: Sequence[VersionStatus]
    labels: Mapping[str, int]
    generation: int = 0
    problem: str = ""
    routing: RoutingStatus | None = None


class Predictor(Protocol):
    """The one function that every front end calls."""

    async def predict(self, request: PredictRequest) -> PredictResponse:
        """Raises EdgeError only."""
        ...


class Catalog(Protocol):
    """What is here, for status and metadata. Never blocks."""

    def models(self) -> Sequence[ModelStatus]:
        """Every model that is known, by name."""
        ...

    def status(self, name: str) -> ModelStatus | None:
        """None for a model that nobody ever heard of."""
        ...

    def describe(self, spec: ModelSpec) -> ModelInfo:
        """Raises NotFound, UnknownLabel."""
        ...

    @property
    def ready(self) -> bool:
        """Whether every model that should be served has a version that answers."""
        ...


class Control(Protocol):
    """Loading and unloading on request."""

    async def load(self, name: str) -> None:
        """Make a model of the repository serve. Raises ControlFailed with the reason."""
        ...

    async def unload(self, name: str) -> None:
        """Stop serving a model until it is loaded again. Raises ControlFailed."""
        ...

    async def reload(self) -> None:
        """Look at every source again, and try failed versions now."""
        ...
