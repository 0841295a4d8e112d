"""One loaded model as a lane sees it: it survives the loss of its device, and leaves a trace if it kills the process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.core.blackbox import Mark
from edge.core.rows import Work
from edge.core.rows import run as run_rows
from edge.domain.errors import EdgeError, InferenceFailed, LoadError
from edge.domain.ports import DeviceLost, LoadedModel
from edge.domain.tensors import Tensors

log = logging.getLogger(__name__)


class Instance:
    """`revive(why)` loads the replacement for a model whose device was lost; it raises LoadError."""

    def __init__(self, model: LoadedModel, mark: Mark, revive: Callable[[str], LoadedModel] | None = None) -> None:
        self.model = model
        self._mark = mark
        self._revive = revive

    @property
    def device(self) -> str:
        return self.model.device

    def run(self, work: Work) -> Tensors:
        """Blocks. Raises InferenceFailed and other EdgeErrors only; a bug in a backend is an InferenceFailed, logged."""
        self._mark.set()
        try:
            return run_rows(self.model, work)
        except DeviceLost as lost:
            return self._run_elsewhere(lost, work)
        except EdgeError:
            raise
        except Exception as error:
            log.exception("%s failed in a way that it never should", type(self.model).__name__)
            raise InferenceFailed("the inference failed") from error
        finally:
            self._mark.clear()

    def _run_elsewhere(self, lost: DeviceLost, work: Work) -> Tensors:
        if self._revive is None:
            raise InferenceFailed(str(lost)) from lost
        log.error("device lost: %s", lost)
        try:
            replacement = self._revive(str(lost))
        except LoadError as error:
            raise InferenceFailed(f"{lost}; {error}") from error
        self.model.close()
        self.model = replacement
        try:
            return run_rows(replacement, work)
        except DeviceLost as again:
            raise InferenceFailed(str(again)) from again

    def close(self) -> None:
        self.model.close()
        self._mark.release()
