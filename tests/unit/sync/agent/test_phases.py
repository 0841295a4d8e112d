"""The table: in each phase of an update something fails, is killed or hangs, with a version to go back to and without one.

Each row says what follows. Whatever it is, the model is idle in the end or waits for what it says that it waits for, and a
version that was good serves, if there was one.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from sync.domain.errors import DiskError, HashMismatch, TooSlow
from sync.domain.journal import Phase
from sync.domain.ports import VersionHealth
from sync.domain.update import MAX_TRIES
from tests.unit.sync.agent.world import World

IDLE, STAGING, SWAPPING, PROBATION, ROLLING_BACK = Phase

Fault = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class After:
    """What follows: the version that serves, None for none, -1 for the one before; the outcome, and why."""

    serves: int | None
    outcome: str
    reason: str = ""
    phase: Phase = IDLE


COMMITTED = After(17, "committed_idle")
OLD = -1


async def no_disk(w: World) -> None:
    """For a while."""
    w.disk.broken = errno.EIO
    for _ in range(5):
        try:
            await w.updater.advance("m")
        except DiskError:
            await w.time.sleep(30)
    w.disk.broken = 0
    w.server.never.discard(17)


async def wrong_bytes(w: World) -> None:
    w.stage.errors = [HashMismatch("want sha256:a, got sha256:b")] * MAX_TRIES


async def fails(w: World) -> None:
    w.server.never.clear()
    w.server.broken[17] = "model.tflite: no memory"


async def both_fail(w: World) -> None:
    w.server.broken |= {16: "gone", 17: "gone"}


async def agent_dies(w: World) -> None:
    w.restart()
    await w.updater.recover()
    w.want(17)
    w.server.never.clear()


async def agent_dies_thrice(w: World) -> None:
    for _ in range(MAX_TRIES):
        w.restart()
        await w.updater.recover()
        w.want(17)
        await w.updater.advance("m")


async def agent_is_stopped_often(w: World) -> None:
    for _ in range(3 * MAX_TRIES):
        await w.updater.stop()
        w.restart()
        await w.updater.recover()
        w.want(17)
    w.server.never.clear()


async def server_dies(w: World) -> None:
    await w.updater.advance("m")
    w.server.restart()
    w.server.never.clear()


async def server_dies_twice(w: World) -> None:
    for _ in range(2):
        w.server.restart()
        await w.updater.advance("m")
    w.server.never.clear()


async def source_hangs(w: World) -> None:
    w.stage.errors = [TooSlow("nothing came for 120 s")] * 10_000


async def never_ready(w: World) -> None:
    w.server.figures[17] = VersionHealth("loading")
    w.server.never.add(17)


async def neither_ready(w: World) -> None:
    w.server.never |= {16, 17}


async def server_is_away(w: World) -> None:
    w.server.absent = True


ROWS = [
    (IDLE, no_disk, COMMITTED, COMMITTED),
    (IDLE, agent_dies, COMMITTED, COMMITTED),
    (IDLE, agent_dies_thrice, COMMITTED, COMMITTED),
    (IDLE, server_dies_twice, COMMITTED, COMMITTED),
    (IDLE, server_is_away, After(OLD, "", "no_server", STAGING), After(None, "", "no_server", STAGING)),
    (STAGING, no_disk, COMMITTED, COMMITTED),
    (STAGING, wrong_bytes, After(OLD, "failed", "hash_mismatch"), After(None, "failed", "hash_mismatch")),
    (STAGING, agent_dies, COMMITTED, COMMITTED),
    (STAGING, agent_is_stopped_often, COMMITTED, COMMITTED),
    (STAGING, server_dies_twice, COMMITTED, COMMITTED),
    (STAGING, source_hangs, After(OLD, "", "slow_source", STAGING), After(None, "", "slow_source", STAGING)),
    (STAGING, server_is_away, After(OLD, "", "no_server", STAGING), After(None, "", "no_server", STAGING)),
    (SWAPPING, no_disk, COMMITTED, COMMITTED),
    (SWAPPING, fails, After(OLD, "failed", "load_failed"), After(None, "failed", "no_model")),
    (SWAPPING, agent_dies, COMMITTED, COMMITTED),
    (SWAPPING, agent_dies_thrice, After(OLD, "failed", "crash_loop"), After(None, "failed", "no_model")),
    (SWAPPING, agent_is_stopped_often, COMMITTED, COMMITTED),
    (SWAPPING, server_dies, COMMITTED, COMMITTED),
    (SWAPPING, never_ready, After(OLD, "failed", "timed_out"), After(None, "failed", "no_model")),
    (SWAPPING, server_is_away, After(17, "", "no_server", SWAPPING), After(17, "", "no_server", SWAPPING)),
    (PROBATION, no_disk, COMMITTED, COMMITTED),
    (PROBATION, fails, After(OLD, "rolled_back", "load_failed"), After(None, "rolled_back", "no_model")),
    (PROBATION, agent_dies, COMMITTED, COMMITTED),
    (PROBATION, agent_dies_thrice, COMMITTED, COMMITTED),
    (PROBATION, agent_is_stopped_often, COMMITTED, COMMITTED),
    (PROBATION, server_dies, COMMITTED, COMMITTED),
    (PROBATION, server_dies_twice, After(OLD, "rolled_back", "crash_loop"), After(None, "rolled_back", "no_model")),
    (PROBATION, never_ready, After(OLD, "rolled_back", "timed_out"), After(None, "rolled_back", "no_model")),
    (PROBATION, server_is_away, After(17, "", "no_server", PROBATION), After(17, "", "no_server", PROBATION)),
    (ROLLING_BACK, no_disk, After(OLD, "failed", "load_failed"), After(None, "failed", "no_model")),
    (ROLLING_BACK, both_fail, After(OLD, "failed", "no_model"), After(None, "failed", "no_model")),
    (ROLLING_BACK, agent_dies, After(OLD, "failed", "load_failed"), After(None, "failed", "no_model")),
    (ROLLING_BACK, agent_dies_thrice, After(OLD, "failed", "load_failed"), After(None, "failed", "no_model")),
    (ROLLING_BACK, server_dies_twice, After(OLD, "failed", "load_failed"), After(None, "failed", "no_model")),
    (ROLLING_BACK, neither_ready, After(OLD, "failed", "no_model"), After(None, "failed", "no_model")),
    (
        ROLLING_BACK,
        server_is_away,
        After(OLD, "failed", "load_failed", ROLLING_BACK),
        After(None, "failed", "load_failed", ROLLING_BACK),
    ),
]


def _name(value: object) -> str:
    return value.value if isinstance(value, Phase) else getattr(value, "__name__", "")


async def reach(w: World, phase: Phase) -> None:
    """17 is wanted, and just got that far."""
    w.want(17)
    if phase in (SWAPPING, ROLLING_BACK):
        w.server.never.add(17)
    for each in {IDLE: (), ROLLING_BACK: (STAGING, SWAPPING)}.get(phase, (STAGING, SWAPPING, PROBATION)):
        await w.until(each)
        if each is phase:
            return
    if phase is ROLLING_BACK:
        await fails(w)
        await w.until(ROLLING_BACK)


@pytest.mark.parametrize("before", [True, False], ids=["with a version before", "the first version"])
@pytest.mark.parametrize(("phase", "fault", "with_one", "without"), ROWS, ids=_name)
async def test_what_follows_when_something_goes_wrong(
    phase: Phase, fault: Fault, with_one: After, without: After, before: bool
) -> None:
    w = World()
    if before:
        await w.installed(16)
    await reach(w, phase)
    assert w.state.phase is phase
    await fault(w)
    want = with_one if before else without
    await w.run(3500)
    state = w.state
    got = After(w.told(), state.outcome, state.reason, state.phase)
    assert got == After(16 if want.serves == OLD else want.serves, want.outcome, want.reason, want.phase), state


@pytest.mark.parametrize("phase", [STAGING, SWAPPING, PROBATION, ROLLING_BACK])
async def test_what_waits_for_the_world_goes_on_when_it_is_back(phase: Phase) -> None:
    w = World()
    await w.installed(16)
    await reach(w, phase)
    w.server.absent = True
    if phase is STAGING:
        await source_hangs(w)
    await w.run(50_000)
    assert w.state.phase is phase
    w.server.absent = False
    w.server.never.clear()
    w.stage.errors.clear()
    await w.until(IDLE)
    assert w.told() == (16 if phase is ROLLING_BACK else 17)
