"""What this device was wished and does not take, for its reports.

Rule 1: pure. Rule 2: a refusal is news once, by version, rollout and reason; its words may be others at every poll. Rule 3: that
the store cannot be had is none: it passes, and says nothing of the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sync.domain.errors import StoreError, SyncError
from sync.domain.report import ModelReport, Refusal, Report


class Refusals:
    """As of the last poll that could tell. A process begins with none."""

    def __init__(self) -> None:
        self._models: Mapping[str, Refusal] = {}
        self._problem: Refusal | None = None

    def planned(self, refused: Mapping[str, Refusal]) -> bool:
        """A poll's plan, by model; whether that is news."""
        return self._note(dict(refused), None)

    def failed(self, error: SyncError) -> bool:
        """A poll without a plan; whether that is news."""
        if isinstance(error, StoreError):
            return False
        return self._note(self._models, Refusal(error.reason.value, error.message))

    def on(self, report: Report) -> Report:
        """The report with what is refused, also of models that nothing was done for."""
        models = dict(report.models)
        for name, refusal in self._models.items():
            models[name] = msgspec.structs.replace(models.get(name, ModelReport()), refused=refusal)
        return msgspec.structs.replace(report, models=models, problem=self._problem)

    def _note(self, models: Mapping[str, Refusal], problem: Refusal | None) -> bool:
        before = _told(self._models, self._problem)
        self._models, self._problem = models, problem
        return _told(models, problem) != before


def _told(models: Mapping[str, Refusal], problem: Refusal | None) -> object:
    """All but the words."""
    every = {**models, "": problem} if problem is not None else models
    return {name: (each.version, each.rollout, each.reason) for name, each in every.items()}
