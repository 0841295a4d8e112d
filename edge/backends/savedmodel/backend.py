"""The server's side of SavedModels: TensorFlow is imported by the worker, and never here.

Rule 1: LoadError is all that comes out of loading, in words for a person. Rule 2: who asks for a GPU where TensorFlow sees none
is served on the CPU, and told so in `notice`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec

from edge.backends.worker.model import Keeper, WorkerModel
from edge.backends.worker.process import WorkerLimits, WorkerProcess
from edge.backends.worker.restarts import Restarts
from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelOptions, is_gpu

MODEL = "saved_model.pb"
PROGRAM = "edge.backends.savedmodel.graph:prepare"
RUNTIME_BYTES = 288 * 2**20
"""What a worker has to itself with TensorFlow 2.21 and a session, 209 MiB, and some; 358 MiB of libraries are there once for all."""
_LOG = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR"}


@dataclass(frozen=True, slots=True)
class SavedModelBackend:
    """A `Backend`. `model_bytes` bounds what a model may add to its worker's resident size, 0 for no bound."""

    model_bytes: int = 0
    restarts: Restarts | None = None
    program: str = PROGRAM

    def memory_bytes(self, artifact: Artifact) -> int:
        """TensorFlow, the graph, and the variables twice (as read, and as held). Raises LoadError."""
        try:
            graph = (artifact.path / MODEL).stat().st_size
            held = sum(each.stat().st_size for each in (artifact.path / "variables").glob("variables.data-*"))
        except OSError as error:
            raise LoadError(f"{MODEL}: {error.strerror}") from None
        return RUNTIME_BYTES + 4 * graph + 2 * held

    def load(self, artifact: Artifact, options: ModelOptions) -> WorkerModel:
        """Raises LoadError: TensorFlow is not installed, no SavedModel with these tags, nothing to call, an operator that it lacks."""
        return self._open(artifact, options)

    def apart(self, artifact: Artifact, options: ModelOptions) -> WorkerModel:
        """In another process than any other of it. Raises LoadError."""
        return self._open(artifact, options, idle=True)

    def _open(self, artifact: Artifact, options: ModelOptions, *, idle: bool = False) -> WorkerModel:
        index = gpu_index(options.device)
        if options.lane == "inline":
            raise LoadError("lane: a SavedModel runs in a process of its own; want auto or thread, got 'inline'")
        if self.program == PROGRAM and find_spec("tensorflow") is None:
            raise LoadError("a SavedModel needs TensorFlow, which is not installed: install edge-serving[gpu]")
        limits = WorkerLimits(options.max_load_s, options.max_run_s, self.model_bytes)
        job = {"path": str(artifact.path), "gpu": index, **_told(options)}
        # Without a GPU nothing need look for one, which takes a second where there are drivers.
        environment = dict(_LOG) if index is not None else _LOG | {"CUDA_VISIBLE_DEVICES": "-1"}
        keeper = Keeper(
            str(artifact.id),
            lambda: WorkerProcess(self.program, job, limits=limits, environment=environment, idle=idle),
            self.restarts,
        )
        return WorkerModel(keeper, keeper.open(), limits)


def gpu_index(device: str) -> int | None:
    """Of `gpu` and `gpu:N`; None for the CPU. Raises LoadError."""
    if device == "cpu":
        return None
    if is_gpu(device):
        return int(device.partition(":")[2] or 0)
    raise LoadError(f"device: savedmodel models run on cpu, gpu or gpu:N, got {device!r}")


def _told(options: ModelOptions) -> dict[str, object]:
    """What the worker is to know of the options."""
    keys = {"num_threads", "inter_op_threads", "gpu_memory_bytes", "xla", "mixed_precision", "tags", "max_batch"}
    return {key: value for key, value in asdict(options).items() if key in keys}
