"""Every phase with every way that it may end, `previous` there or not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sync.agent.limits import UpdateLimits
from sync.agent.witness import why_it_failed
from sync.domain.errors import Deferred, DiskError, DiskFull, HashMismatch, Reason, Unreachable
from sync.domain.journal import Phase
from sync.domain.ports import ModelHealth, VersionHealth
from tests.unit.sync.agent.world import MODELS, World


async def test_a_version_that_is_wanted_is_brought_swapped_in_watched_and_committed() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    assert w.stage.brought == [16, 17]
    assert w.serving == (17,)
    assert w.state.previous is not None
    assert w.state.previous.version == 16
    w.server.figures[17] = VersionHealth("ready", answered=100)
    began = w.time.seconds
    await w.until(Phase.IDLE)
    assert 600 <= w.time.seconds - began <= 605
    assert (w.state.outcome, w.state.reason) == ("committed", "")
    assert w.state.previous.version == 16, "and may be gone back to"


async def test_a_device_without_traffic_commits_when_the_time_is_over_and_says_so() -> None:
    w = World()
    await w.installed(16)
    assert w.state.outcome == "committed_idle"


async def test_nothing_is_done_for_what_runs_already() -> None:
    w = World()
    await w.installed(16)
    reports = len(w.reports)
    w.want(16)
    await w.run(86_400)
    assert w.state.phase is Phase.IDLE
    assert len(w.reports) == reports
    assert w.stage.brought == [16]


async def test_a_device_waits_for_its_moment_also_through_a_restart_and_a_clock_that_jumps() -> None:
    w = World()
    await w.installed(16)
    w.want(17, wait_s=3000)
    assert await w.updater.advance("m") == 3000
    w.time.seconds += 1000
    w.restart()
    w.want(17, wait_s=3000)
    assert await w.updater.advance("m") == pytest.approx(2000)
    w.time.jump = -1e6
    assert await w.updater.advance("m") == 3000, "never longer than the spread"
    w.time.jump = 1e6
    await w.updater.advance("m")
    assert w.state.phase is Phase.STAGING


async def test_a_first_version_waits_for_nobody() -> None:
    w = World()
    w.want(16, wait_s=3000)
    assert await w.updater.advance("m") == 0
    assert w.state.phase is Phase.STAGING


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Unreachable("no route"), Reason.NET_UNREACHABLE), (DiskFull(100, 1), Reason.BLOCKED_DISK)],
)
async def test_what_waits_for_the_world_is_no_try_and_goes_on_when_it_may(error: Exception, reason: Reason) -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    w.stage.errors = [error] * 40  # type: ignore[list-item]
    await w.updater.advance("m")
    waits = [await w.updater.advance("m") for _ in range(40)]
    assert (w.state.phase, w.state.reason, w.state.tries) == (Phase.STAGING, reason.value, 0)
    for longest, wait_s in zip((15, 30, 60), waits, strict=False):
        assert longest / 2 <= wait_s <= longest
    assert w.limits.max_retry_s / 2 <= waits[-1] <= w.limits.max_retry_s
    assert w.serving == (16,)
    await w.until(Phase.PROBATION)
    assert w.state.reason == ""


async def test_bytes_that_are_wrong_thrice_make_the_release_bad_for_a_while() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    w.stage.errors = [HashMismatch("want sha256:a, got sha256:b")] * 3
    await w.until(Phase.STAGING)
    await w.until(Phase.ROLLING_BACK, Phase.IDLE)
    assert w.serving == (16,)
    (bad,) = w.state.bad
    assert (bad.version, bad.reason) == (17, "hash_mismatch")
    assert bad.until == pytest.approx(w.time.now() + 3600, abs=60)


async def test_a_version_that_fails_its_trial_is_bad_and_the_old_one_serves_on() -> None:
    w = World()
    await w.installed(16)
    w.server.broken[17] = "self-test: scores: 3 of 8 runs differ"
    w.want(17)
    await w.until(Phase.STAGING)
    await w.until(Phase.IDLE)
    assert w.serving == (16,)
    assert w.state.active is not None
    assert w.state.active.version == 16
    assert (w.state.outcome, w.state.reason) == ("failed", "selftest_failed")
    assert "3 of 8 runs differ" in w.state.detail
    assert [(bad.version, bad.until) for bad in w.state.bad] == [(17, 0.0)]


async def test_a_version_that_failed_is_not_tried_again_by_a_plan_from_before_it_failed() -> None:
    w = World()
    await w.installed(16)
    w.server.broken[17] = "self-test: scores: 3 of 8 runs differ"
    w.want(17)
    await w.run(4 * 3600)
    assert w.stage.brought == [16, 17]
    w.want(17, pin_seq=8)
    await w.run(60)
    assert w.stage.brought == [16, 17, 17], "a pin asks for it anew"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("self-test: output y: 8 of 8 elements are not within 4", Reason.SELFTEST_FAILED),
        ("golden.npz: not a zip file", Reason.SELFTEST_FAILED),
        ("timed out: not done after 60 s", Reason.SELFTEST_TIMEOUT),
        ("out of memory: want at most 1024 MiB", Reason.LOW_MEMORY),
        ("crashed (SIGKILL): most likely the system ran out of memory", Reason.LOW_MEMORY),
        ("model.tflite: not enough memory", Reason.LOW_MEMORY),
        ("crashed (SIGSEGV)", Reason.LOAD_FAILED),
        ("output of the converter is no model", Reason.LOAD_FAILED),
    ],
)
def test_what_the_server_says_of_a_version_that_failed_has_a_reason(said: str, reason: Reason) -> None:
    assert why_it_failed(said) is reason


async def test_a_version_that_never_gets_ready_is_given_up() -> None:
    w = World()
    await w.installed(16)
    w.server.never.add(17)
    w.want(17)
    await w.until(Phase.STAGING)
    await w.until(Phase.IDLE)
    assert (w.state.outcome, w.state.reason) == ("failed", "timed_out")


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        (VersionHealth("ready", answered=50, failures=10), "health_errors"),
        (VersionHealth("ready", answered=60, non_finite=10), "health_errors"),
        (VersionHealth("ready", answered=60, run_p99_s=0.02), "health_latency"),
        (VersionHealth("failed", "its device is gone"), "load_failed"),
    ],
)
async def test_a_version_that_does_worse_than_the_old_one_is_rolled_back(figures: VersionHealth, reason: str) -> None:
    w = World()
    await w.installed(16)
    w.server.figures[16] = VersionHealth("ready", answered=1000, failures=1, run_p99_s=0.01)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.figures[17] = figures
    await w.until(Phase.ROLLING_BACK)
    assert w.serving == (16,)
    await w.until(Phase.IDLE)
    assert (w.state.outcome, w.state.reason) == ("rolled_back", reason)
    assert w.state.active is not None
    assert w.state.active.version == 16
    assert [bad.version for bad in w.state.bad] == [17]


async def test_the_second_death_of_the_server_in_probation_rolls_back_and_a_clean_restart_is_none() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    await w.run(5)
    w.server.restart("clean")
    await w.run(5)
    w.server.restart()
    await w.run(5)
    assert w.state.phase is Phase.PROBATION
    w.restart()
    w.server.restart("crashed")
    await w.until(Phase.IDLE)
    assert (w.state.outcome, w.state.reason) == ("rolled_back", "crash_loop")


async def test_failures_are_added_up_over_the_server_s_processes() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.figures[17] = VersionHealth("ready", answered=10, failures=2)
    await w.run(5)
    w.server.restart("clean")
    w.server.figures[17] = VersionHealth("ready", answered=10, failures=3)
    await w.until(Phase.IDLE)
    assert "5 of 25 answers failed" in w.state.detail


async def test_a_server_that_is_away_is_waited_for() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.absent = True
    await w.run(100_000)
    assert (w.state.phase, w.state.reason) == (Phase.PROBATION, "no_server")
    w.server.absent = False
    began = w.time.seconds
    await w.until(Phase.IDLE)
    assert w.time.seconds - began > 590, "what was not watched does not count"


async def test_a_first_version_that_fails_leaves_nothing_served_and_says_so() -> None:
    w = World()
    w.server.broken[16] = "model.tflite: not a TFLite model"
    w.want(16)
    await w.until(Phase.STAGING)
    await w.until(Phase.IDLE)
    assert w.serving == ()
    assert (w.state.active, w.state.reason) == (None, "no_model")
    assert "load_failed: model.tflite: not a TFLite model" in w.state.detail


async def test_an_old_version_that_fails_too_is_reported() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.broken = {16: "the file is gone", 17: "crashed"}
    await w.until(Phase.IDLE)
    assert w.state.reason == "no_model"
    assert "version 16, which served before, failed too: the file is gone" in w.state.detail


@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.SWAPPING, Phase.PROBATION])
async def test_what_is_no_longer_wanted_is_left_without_being_bad(phase: Phase) -> None:
    w = World()
    await w.installed(16)
    w.server.never.add(17)
    w.want(17)
    await w.until(Phase.STAGING)
    if phase is not Phase.STAGING:
        await w.until(Phase.SWAPPING)
    if phase is Phase.PROBATION:
        w.server.never.clear()
        await w.until(Phase.PROBATION)
    w.want(16, rollout="")
    await w.until(Phase.IDLE)
    assert w.serving == (16,)
    assert w.state.bad == ()


@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.SWAPPING])
async def test_crashes_of_the_agent_in_one_phase_are_bounded(phase: Phase) -> None:
    w = World()
    await w.installed(16)
    w.server.never.add(17)
    if phase is Phase.STAGING:
        w.stage.errors = [Unreachable("no route")] * 100
    for _ in range(3):
        w.want(17)
        await w.until(phase)
        w.restart()
        await w.updater.recover()
    w.want(17)
    await w.until(Phase.IDLE)
    assert (w.state.outcome, w.stage.brought[1:]) == ("failed", [17] if phase is Phase.SWAPPING else [])
    assert w.serving == (16,)


async def test_probation_goes_on_where_a_crash_of_the_agent_left_it() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    await w.run(500)
    w.restart()
    await w.updater.recover()
    began = w.time.seconds
    await w.until(Phase.IDLE)
    assert 100 <= w.time.seconds - began <= 161


async def test_a_disk_that_fails_changes_nothing() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    w.disk.broken = errno.ENOSPC
    with pytest.raises(DiskError, match=r"state\.json: cannot be written: No space left on device"):
        await w.updater.advance("m")
    assert w.state.phase is Phase.IDLE
    w.disk.broken = 0
    await w.until(Phase.PROBATION)
    assert w.serving == (17,)


async def test_a_journal_that_was_lost_takes_what_the_server_was_told_for_what_is_active() -> None:
    w = World()
    await w.installed(16)
    w.disk.content[MODELS / "m" / "16" / "model.tflite"] = b"16"
    w.disk.content[Path("/state.json")] = b"\0" * 100
    w.restart()
    assert w.journal.problem.startswith("journal: ")
    assert w.state.active is not None
    assert w.state.active.version == 16
    w.server.broken[17] = "crashed"
    w.want(17)
    await w.until(Phase.STAGING)
    await w.until(Phase.IDLE)
    assert w.serving == (16,)


async def test_after_a_pause_a_device_waits_for_its_moment_anew_and_not_where_only_a_window_held_it_back() -> None:
    for wished, wait_s in ((frozenset({""}), 600.0), (frozenset({"", "r"}), 0.0)):
        w = World()
        await w.installed(16)
        w.want(17, wait_s=600)
        await w.updater.advance("m")
        await w.time.sleep(300)
        w.want(16, rollout="")
        w.updater.targets = {"m": w.updater.targets["m"]._replace(wished=wished)}
        await w.updater.advance("m")
        w.restart()
        await w.time.sleep(7200)
        w.want(17, wait_s=600)
        assert await w.updater.advance("m") == wait_s


async def test_a_download_that_waits_for_its_hour_is_no_try_and_begins_at_the_hour() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    w.stage.errors = [Deferred("downloads wait for 22:00", 1234.0), Deferred("downloads wait for 22:00", 99999.0)]
    await w.updater.advance("m")
    assert 1234 <= await w.updater.advance("m") <= 1234 + w.limits.stagger_s
    assert (w.state.phase, w.state.reason, w.state.tries) == (Phase.STAGING, "deferred", 0)
    assert w.state.detail == "downloads wait for 22:00"
    assert await w.updater.advance("m") == w.limits.max_retry_s, "a clock may be set meanwhile"
    await w.until(Phase.PROBATION)


async def test_a_version_that_has_waited_for_its_hour_for_as_long_as_it_may_is_fetched_at_any() -> None:
    w = World()
    w.limits = UpdateLimits(deadline_s=1000.0, stagger_s=0.0)
    w.restart()
    await w.installed(16)
    w.stage.urgent.clear()
    w.want(17)
    w.stage.errors = [Deferred("downloads wait for 22:00", 3000.0)]
    await w.updater.advance("m")
    assert await w.updater.advance("m") == 1000, "no later than its deadline"
    await w.time.sleep(1000)
    await w.updater.advance("m")
    assert w.stage.urgent == [False, True]


async def test_a_first_version_and_a_rollout_that_is_overdue_wait_for_no_hour() -> None:
    w = World()
    await w.installed(16)
    assert w.stage.urgent == [True], "nothing serves yet"
    w.want(17)
    await w.until(Phase.PROBATION)
    assert w.stage.urgent == [True, False]
    await w.until(Phase.IDLE)
    w.want(18)
    w.updater.targets = {"m": w.updater.targets["m"]._replace(urgent=True)}
    await w.until(Phase.PROBATION)
    assert w.stage.urgent == [True, False, True]


async def test_a_server_that_is_away_for_a_while_is_why_only_for_so_long() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.SWAPPING)
    w.server.absent = True
    await w.run(5)
    assert (w.state.phase, w.state.reason) == (Phase.SWAPPING, "no_server")
    w.server.absent, w.server.never = False, {17}
    await w.run(5)
    assert (w.state.phase, w.state.reason, w.state.detail) == (Phase.SWAPPING, "", "")
    w.server.never = set()
    await w.until(Phase.PROBATION)
    w.server.absent = True
    await w.run(5)
    assert (w.state.phase, w.state.reason) == (Phase.PROBATION, "no_server")
    w.server.absent = False
    await w.run(5)
    assert (w.state.phase, w.state.reason, w.state.detail) == (Phase.PROBATION, "", "")


async def test_what_the_swap_waited_for_is_not_why_the_probation_does() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.SWAPPING)
    w.server.absent = True
    await w.run(5)
    w.server.absent = False
    await w.until(Phase.PROBATION)
    assert w.state.reason == ""


async def test_a_server_that_is_away_while_the_old_version_is_asked_for_hides_no_reason() -> None:
    w = World()
    await w.installed(16)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.restart()
    await w.run(2)
    w.server.restart()
    await w.until(Phase.ROLLING_BACK)
    w.server.absent = True
    await w.run(30)
    w.server.absent = False
    await w.until(Phase.IDLE)
    assert (w.state.outcome, w.state.reason) == ("rolled_back", "crash_loop")


async def test_what_failed_is_not_begun_again_before_the_documents_are_read_anew() -> None:
    w = World()
    await w.installed(16)
    w.server.broken[17] = "self-test: scores: 3 of 8 runs differ"
    w.want(17)
    await w.run(86_400)
    assert w.stage.brought == [16, 17]
    assert w.serving == (16,)


async def test_a_cool_down_ends_also_when_the_clock_was_years_ahead_as_it_began() -> None:
    w = World()
    await w.installed(16)
    w.time.jump = 10 * 365 * 86400.0
    w.want(17)
    w.stage.errors = [HashMismatch("want sha256:a, got sha256:b")] * 3
    await w.until(Phase.STAGING)
    await w.until(Phase.IDLE)
    assert len(w.state.bad) == 1
    await w.updater.advance("m")
    assert w.state.phase is Phase.IDLE
    w.time.jump = 0.0
    await w.until(Phase.PROBATION)
    assert w.serving == (17,)


async def test_a_run_of_microseconds_that_takes_twice_its_time_is_no_slow_version() -> None:
    w = World()
    await w.installed(16)
    w.server.figures[16] = VersionHealth("ready", answered=1000, run_p99_s=5e-6)
    w.want(17)
    await w.until(Phase.PROBATION)
    w.server.figures[17] = VersionHealth("ready", answered=1000, run_p99_s=0.0015)
    await w.until(Phase.IDLE)
    assert w.state.outcome == "committed"


async def test_what_the_server_says_of_something_else_that_it_was_told_is_not_heard() -> None:
    """The journal was lost, and generations begin anew; the server has not yet read what it is told now."""
    w = World()
    w.server.acts_on = ModelHealth(42, "", {17: VersionHealth("failed", "of long ago")})
    w.want(17)
    await w.until(Phase.SWAPPING)
    await w.run(10)
    assert w.state.phase is Phase.SWAPPING
    w.server.acts_on = None
    await w.until(Phase.IDLE)
    assert w.state.outcome == "committed_idle"
