"""One loaded model as a lane sees it: it survives the loss of its device, and leaves a trace if it kills the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from edge.core.blackbox import Mark
from edge.core.devices import CPU, FREE, Device
from edge.core.rows import Work
from edge.core.rows import run as run_rows
from edge.domain.errors import EdgeError, InferenceFailed, LoadError
from edge.domain.ports import DeviceLost, LoadedModel
from edge.domain.tensors import Tensors

log = logging.getLogger(__name__)


class Instance:
    """`on` is the accelerator that the model runs on, if any.

    `revive(why)` loads the replacement for a model whose device was lost or hangs; it raises LoadError. `mark` makes
    the record of one instance.
    """

    def __init__(
        self,
        model: LoadedModel,
        mark: Callable[[], Mark] = Mark,
        *,
        on: Device | None = None,
        revive: Callable[[str], LoadedModel] | None = None,
    ) -> None:
        self.model = model
        self._new_mark, self._mark = mark, mark()
        self._on, self._revive = on, revive

    @property
    def device(self) -> str:
        return self.model.device

    @property
    def lock(self) -> AbstractContextManager[object]:
        """To be held for a run: other models may be on the same device."""
        return FREE if self._on is None or self.model.device == CPU else self._on.lock

    @property
    def replaceable(self) -> bool:
        """Whether a stand-in may be had for it."""
        return self._revive is not None and self.model.device != CPU

    def hangs(self, trouble: str) -> None:
        """Its run does not come back: nothing more goes to its device."""
        if self._on is not None and self.model.device != CPU:
            self._on.trouble = trouble

    def came_back(self) -> None:
        """The run that hung has ended, well or not."""
        if self._on is not None:
            self._on.trouble = ""

    def stand_in(self, why: str) -> Instance:
        """Another instance, which runs elsewhere, while this one hangs. Blocks. Raises LoadError."""
        assert self._revive is not None
        return Instance(self._revive(why), self._new_mark)

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
        if not self.replaceable or self._revive is None:
            raise InferenceFailed(str(lost)) from lost
        log.error("device lost: %s", lost)
        try:
            replacement = self._revive(str(lost))
        except LoadError as error:
            raise InferenceFailed(str(error)) from error
        self.model.close()
        self.model = replacement
        try:
            return run_rows(replacement, work)
        except DeviceLost as again:
            raise InferenceFailed(str(again)) from again

    def close(self) -> None:
        self.model.close()
        self._mark.release()
