"""A first version that is no longer wanted: nothing else serves until the next one does."""

from __future__ import annotations

from sync.domain.journal import Phase, aspired
from tests.unit.sync.agent.world import World


async def test_a_first_version_that_is_no_longer_wanted_serves_until_the_next_one_does() -> None:
    w = World()
    w.want(16)
    await w.until(Phase.PROBATION)
    w.server.never.add(17)
    w.want(17)
    await w.until(Phase.SWAPPING)
    assert w.state.active is not None
    assert w.state.active.version == 16
    assert (w.state.bad, w.state.outcome) == ((), "")
    w.server.never.clear()
    await w.until(Phase.PROBATION)
    assert w.serving == (17,)
    told = [file.versions for state in w.reports if (file := aspired(state)) is not None]
    assert told
    assert () not in told, "at no time was the server told to serve nothing"


async def test_what_it_is_kept_for_may_fail_and_it_serves_on() -> None:
    w = World()
    w.want(16)
    await w.until(Phase.PROBATION)
    w.server.broken[17] = "model.tflite: not a TFLite model"
    w.want(17)
    await w.until(Phase.SWAPPING)
    await w.until(Phase.IDLE)
    assert w.serving == (16,)


async def test_one_that_does_not_serve_is_not_kept() -> None:
    w = World()
    w.want(16)
    await w.until(Phase.PROBATION)
    w.server.broken[16] = "crashed"
    w.want(17)
    await w.until(Phase.ROLLING_BACK)
    assert (w.state.bad, w.state.reason) == ((), "rolled_back_operator")


async def test_it_is_not_judged_by_what_a_server_says_that_has_not_heard_of_it_yet() -> None:
    w = World()
    w.want(16)
    await w.until(Phase.PROBATION)
    w.server.absent = True
    w.want(17)
    await w.run(100)
    assert w.state.phase is Phase.PROBATION
    w.server.absent = False
    await w.until(Phase.IDLE)
    assert w.serving == (16,)
