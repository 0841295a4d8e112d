"""A TFLite model in a process of its own: both sides of it.

Rule: nothing of the model is in the server's process but its signatures, and nothing that it does there ends the server.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.backends.worker.model import Keeper, WorkerModel
from edge.backends.worker.process import WorkerLimits, WorkerProcess
from edge.backends.worker.program import Computing, Load
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.ports import LoadedModel
from edge.domain.tensors import Signature, Tensors

PROGRAM = "edge.backends.tflite_apart:prepare"
ROOM_BYTES = 64 * 2**20
"""That it may take beside what its model is reckoned to take."""


def open_apart(artifact: Artifact, options: ModelOptions, model_bytes: int) -> WorkerModel:
    """model_bytes: what the model is reckoned to take. Raises LoadError."""
    limits = WorkerLimits(options.max_load_s, options.max_run_s, 2 * model_bytes + ROOM_BYTES)
    job = {
        "name": artifact.id.name,
        "version": artifact.id.version,
        "path": str(artifact.path.absolute()),
        "cpu_twin": "" if options.cpu_twin is None else str(options.cpu_twin),
        "num_threads": options.num_threads,
        "max_batch": options.max_batch,
    }
    keeper = Keeper(f"{artifact.id} apart", lambda: WorkerProcess(PROGRAM, job, limits=limits, idle=True))
    return WorkerModel(keeper, keeper.open(), limits)


def prepare() -> Load:
    """In the worker."""
    from edge.backends.runtime import runtime
    from edge.backends.tflite import TfliteBackend

    runtime()

    def load(job: Mapping[str, Any]) -> Computing:
        artifact = Artifact(ModelId(job["name"], job["version"]), Platform.TFLITE, Path(job["path"]))
        options = ModelOptions(num_threads=job["num_threads"], max_batch=job["max_batch"])
        if job["cpu_twin"]:
            options = replace(options, cpu_twin=Path(job["cpu_twin"]))
        return _Apart(TfliteBackend().load(artifact, options))

    return load


class _Apart:
    """One caller at a time, whoever comes."""

    keeps_inputs = False

    def __init__(self, model: LoadedModel) -> None:
        self.signatures: Mapping[str, Signature] = model.signatures
        self.device, self.notice, self.max_batch = model.device, model.notice, model.max_batch
        self._model, self._alone = model, threading.Lock()

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """Raises InferenceFailed, InvalidInput."""
        with self._alone:
            return self._model.run(signature, inputs)
