"""A server on a directory of versions, and new versions put into it."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from benchmarks.models import Measured
from tests.functional.server import Running, serving

SWAPPED_WITHIN_S = 60.0
LOOK_S = 0.05


class Published:
    """Version 1 is served on entering. Each version is the same file, so that only the swap is seen."""

    def __init__(self, directory: Path, model: Measured) -> None:
        self._models, self._work, self._model = directory / "models", directory, model
        self._stack = ExitStack()
        self.version = 0
        self.running: Running

    def __enter__(self) -> Published:
        (self._models / self._model.name).mkdir(parents=True)
        self._publish()
        self.running = self._stack.enter_context(serving(self._work, self._models))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def swap(self) -> tuple[float, float]:
        """Publishes the next version; when it was renamed into place and when the old one was seen to be unloaded."""
        start = self._publish()
        while self.states() != {str(self.version): "AVAILABLE"}:
            if time.perf_counter() - start > SWAPPED_WITHIN_S:
                raise TimeoutError(f"version {self.version} after {SWAPPED_WITHIN_S} s: {self.states()}")
            time.sleep(LOOK_S)
        return start, time.perf_counter()

    def states(self) -> dict[str, str]:
        """Of the versions that are not over."""
        answer = self.running.json(f"/v1/models/{self._model.name}")["model_version_status"]
        return {one["version"]: one["state"] for one in answer if one["state"] != "END"}

    def _publish(self) -> float:
        self.version += 1
        made = self._work / f"new-{self.version}"
        made.mkdir()
        shutil.copyfile(self._model.path, made / "model.tflite")
        now = time.perf_counter()
        made.rename(self._models / self._model.name / str(self.version))
        return now
