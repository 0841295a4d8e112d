"""What an update took: of itself, and not of the ones before it."""

from __future__ import annotations

from sync.agent.tally import Tally
from sync.domain.journal import ModelState, Phase
from sync.domain.report import Transfer


class Device:
    def __init__(self) -> None:
        self.fetched, self.now = (0, 0, 0), 0.0
        self.tally = Tally(lambda: self.fetched, lambda: self.now)

    def goes(self, *phases: Phase, model: str = "m") -> None:
        """Each a second after the one before."""
        for phase in phases:
            self.now += 1.0
            self.tally.changed(model, ModelState(phase=phase))


def test_bytes_and_times_are_those_of_the_last_update_alone() -> None:
    device = Device()
    device.goes(Phase.STAGING)
    device.fetched = (100, 20, 3)
    device.goes(Phase.STAGING, Phase.SWAPPING, Phase.PROBATION, Phase.IDLE)
    assert device.tally.last == Transfer(100, 20, 3, ms_download=2000, ms_test=1000)
    device.goes(Phase.STAGING)
    device.fetched = (150, 20, 3)
    assert device.tally.last.bytes_full == 100, "the last one, until this one has its files"
    device.goes(Phase.SWAPPING)
    assert device.tally.last == Transfer(50, 0, 0, ms_download=1000)


def test_an_update_that_was_called_off_or_failed_its_trial_has_taken_what_it_took() -> None:
    device = Device()
    device.goes(Phase.STAGING)
    device.fetched = (7, 0, 0)
    device.goes(Phase.IDLE)
    assert device.tally.last == Transfer(7, ms_download=1000)
    device.goes(Phase.STAGING, Phase.SWAPPING, Phase.ROLLING_BACK, Phase.IDLE)
    assert device.tally.last == Transfer(0, ms_download=1000, ms_test=1000)


def test_one_that_an_earlier_process_began_is_counted_from_the_start_of_this_one() -> None:
    device = Device()
    device.fetched = (5, 0, 0)
    device.goes(Phase.SWAPPING)
    assert device.tally.last == Transfer(5, ms_download=1000)
    device.goes(Phase.STAGING, Phase.SWAPPING, model="other")
    device.goes(Phase.PROBATION)
    assert device.tally.last == Transfer(5, ms_download=1000, ms_test=3000), "of the update that moved last"
