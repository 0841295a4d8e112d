"""What systemd is told of the agent, in one line."""

from __future__ import annotations

from sync.agent.supervised import standing
from sync.domain.errors import Unreachable
from sync.domain.journal import Installed, Journal, ModelState, Phase
from tests.unit.sync.agent.as_user import RELEASE


def installed(version: int) -> Installed:
    return Installed(version, RELEASE.release, "cpu", ())


def test_each_model_is_told_with_what_becomes_of_it_and_then_why_the_last_poll_failed() -> None:
    journal = Journal(
        models={
            "ocr": ModelState(active=installed(3)),
            "det": ModelState(phase=Phase.STAGING, active=installed(17), candidate=installed(18)),
            "new": ModelState(phase=Phase.SWAPPING, candidate=installed(1)),
            "old": ModelState(phase=Phase.ROLLING_BACK, active=installed(2)),
        }
    )
    runs = "det 17 → 18 (staging), new none → 1 (swapping), ocr 3, old 2 (rolling back)"
    assert standing(journal, None) == runs
    assert standing(journal, Unreachable("the store does not answer")) == f"{runs}; poll: the store does not answer"
    assert standing(Journal(), None) == "no models yet"
