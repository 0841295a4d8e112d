"""A model that is held, or taken back, by somebody who signs nothing: it stays at what was signed for it once, until it is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sync.agent.limits import UpdateLimits
from sync.domain.errors import OperatorError
from sync.domain.holds import aimed, rollback
from sync.domain.journal import Bad, Held, Journal, ModelState, Phase, encode_journal, parse_journal
from sync.domain.rollout import Probation, Wish
from sync.domain.update import Target
from tests.fakes.sync.files import PowerCut, Survival
from tests.unit.sync.agent.rig import Rig
from tests.unit.sync.agent.world import World, release

HOUR_S = 3600.0


async def updated() -> World:
    """17 serves, committed; 16, which served before, is kept."""
    w = World()
    await w.installed(16)
    await w.installed(17)
    return w


def target(version: int, **more: object) -> Target:
    return Target(release(version), Wish(version, "r"), 7, Probation(), "beside")._replace(**more)  # type: ignore[arg-type]


async def test_what_is_pinned_stays_whatever_is_rolled_out_and_goes_on_when_it_is_let_go_of() -> None:
    w = await updated()
    held = await w.updater.pin("m")
    assert (held.version, held.by) == (17, "pin")
    w.want(18)
    await w.run(HOUR_S)
    assert (w.serving, w.state.phase) == ((17,), Phase.IDLE)
    assert await w.updater.unpin("m")
    await w.run(HOUR_S)
    assert w.serving == (18,)
    assert not await w.updater.unpin("m"), "it was not held any more"


async def test_what_is_rolled_back_serves_the_version_before_and_stays_there_without_a_byte_that_was_not_here() -> None:
    w = await updated()
    w.want(18)
    w.stage.brought.clear()
    assert (await w.updater.roll_back("m")).version == 16
    await w.run(HOUR_S)
    assert w.serving == (16,)
    assert (w.state.rollout, w.state.outcome) == ("hold", "committed_idle")
    assert w.stage.brought == [16]
    assert w.state.bad == (), "17 is left, and not bad"
    await w.updater.unpin("m")
    await w.run(HOUR_S)
    assert w.serving == (18,)


async def test_a_second_rollback_does_nothing_for_a_command_may_come_twice() -> None:
    w = await updated()
    first = await w.updater.roll_back("m")
    await w.run(HOUR_S)
    assert await w.updater.roll_back("m") is first
    await w.run(HOUR_S)
    assert w.serving == (16,)


@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.SWAPPING, Phase.PROBATION])
async def test_a_rollback_in_the_midst_of_an_update_takes_the_device_to_where_it_was(phase: Phase) -> None:
    w = await updated()
    w.want(18)
    if phase is Phase.SWAPPING:
        w.server.never.add(18)
    await w.until(phase)
    held = await w.updater.roll_back("m")
    assert held.version == {Phase.STAGING: 16}.get(phase, 17), "staging has touched nothing yet: what runs is left"
    w.server.never.clear()
    await w.run(HOUR_S)
    assert (w.serving, w.state.phase, w.state.bad) == ((held.version,), Phase.IDLE, ())


async def test_a_hold_outlives_the_process_and_a_crash_in_the_midst_of_going_back() -> None:
    w = await updated()
    await w.updater.roll_back("m")
    await w.until(Phase.SWAPPING)
    w.restart()
    w.want(18)
    await w.updater.recover()
    await w.run(HOUR_S)
    assert w.serving == (16,)


async def test_a_write_of_a_worker_that_began_before_the_hold_does_not_undo_it() -> None:
    w = await updated()
    before = w.state
    await w.updater.pin("m")
    await w.updater._moves.write("m", msgspec.structs.replace(before, tries=1))
    assert w.journal.value.holds["m"].version == 17


async def test_a_signed_pin_goes_before_a_hold_and_the_hold_comes_back_into_force_after_it() -> None:
    w = await updated()
    await w.updater.pin("m")
    w.want(18, rollout="pin", pin_seq=9)
    await w.run(HOUR_S)
    assert w.serving == (18,)
    w.want(19)
    await w.run(HOUR_S)
    assert w.serving == (17,), "it is held at 17, which is still here"
    w.want(20, rollout="pin", pin_seq=10)
    await w.run(HOUR_S)
    w.want(21, rollout="pin", pin_seq=11)
    await w.run(HOUR_S)
    w.want(22)
    await w.run(HOUR_S)
    assert w.serving == (21,), "17 is gone by now: what runs is held"


async def test_a_version_that_is_rolled_back_everywhere_is_not_held() -> None:
    w = await updated()
    await w.updater.pin("m")
    w.updater.targets = {"m": target(16, recalled=17)}
    await w.run(HOUR_S)
    assert w.serving == (16,)


def kept_at(counter: int) -> ModelState:
    old = msgspec.structs.replace(release(16), counter=counter)
    return ModelState(active=msgspec.structs.replace(release(17), counter=20), previous=old)


def test_a_version_below_the_floor_that_is_signed_is_not_gone_back_to_nor_held() -> None:
    held = Held(16, release(16).release, "rollback")
    forbids = target(18, min_counter=12)
    assert aimed(kept_at(12), held, forbids, 0.0) != forbids
    assert aimed(kept_at(11), held, forbids, 0.0) == forbids
    with pytest.raises(OperatorError, match="want a release counter of at least 12, got 11"):
        rollback(kept_at(11), None, forbids, 0.0)


def test_a_version_that_failed_here_is_not_gone_back_to() -> None:
    bad = msgspec.structs.replace(kept_at(1), bad=(Bad(release(16).release, 16, "health_errors", 1),))
    with pytest.raises(OperatorError, match="version 16 failed here"):
        rollback(bad, None, None, 0.0)


async def test_where_the_version_that_was_gone_back_to_fails_what_served_serves_on_and_is_held() -> None:
    w = await updated()
    w.server.broken[16] = "rotten"
    await w.updater.roll_back("m")
    w.want(18)
    await w.run(HOUR_S)
    assert (w.serving, w.state.reason) == ((17,), "load_failed")


async def test_only_what_is_here_can_be_held() -> None:
    w = await updated()
    with pytest.raises(OperatorError, match="want a version that is here, 17 or 16, got 18"):
        await w.updater.pin("m", 18)
    assert (await w.updater.pin("m", 16)).version == 16
    first = World()
    with pytest.raises(OperatorError, match="nothing runs"):
        await first.updater.pin("m")
    with pytest.raises(OperatorError, match="no version before it"):
        await first.updater.roll_back("m")


async def test_a_hold_is_followed_before_the_first_poll_too() -> None:
    w = await updated()
    w.limits = UpdateLimits()
    w.restart()
    await w.updater.roll_back("m")
    await w.run(HOUR_S)
    assert w.serving == (16,)


def test_a_journal_of_before_holds_is_read_and_one_with_a_hold_of_no_model_is_not() -> None:
    old = encode_journal(Journal(models={"m": kept_at(1)}))
    assert parse_journal(old).holds == {}
    with pytest.raises(Exception, match="holds: want names of models"):
        parse_journal(encode_journal(Journal(holds={"../x": Held(1, release(1).release, "pin")})))


async def rolled_back(cut: int | None = None) -> Rig:
    """From 17 to 16, both of which are here; the power goes before the operation of that number."""
    rig = Rig()
    await rig.installed()
    rig.want(17)
    await rig.until(17)
    for path in list(rig.files._names):
        rig.files.sync(path)
    rig.files.crash(Survival.ALL)
    rig.files.count, rig.files.cut_at = 0, cut
    try:
        await rig.updater.roll_back("m")
        await rig.until(16)
    except PowerCut:
        rig.files.cut_at = None
    else:
        assert cut is None
    return rig


@pytest.mark.parametrize("survival", Survival, ids=lambda each: each.name.lower())
async def test_a_power_cut_before_any_operation_of_going_back_loses_neither_version_nor_half_a_hold(
    survival: Survival, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    ends = set()
    for cut in range((await rolled_back()).files.count):
        rig = await rolled_back(cut)
        rig.files.crash(survival, cut)
        rig.start()
        await rig.updater.recover()
        ends.add(end := 16 if rig.journal.value.holds else 17)
        await rig.until(end)
        rig.check(16, 17)
        assert rig.told.versions == (end,)
    assert ends == {16, 17}
