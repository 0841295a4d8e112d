"""What a person is told: something of use for every phase, every reason and every end."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC
from itertools import product
from typing import Literal, get_args, get_type_hints

import msgspec
import pytest

from sync.agent.around import PEERS
from sync.agent.outbox import RefusedReports
from sync.agent.status import PHASES, as_text, tell
from sync.agent.told import ModelTold
from sync.agent.view import View
from sync.agent.words import REASONS, because, lasting, moment, words_of
from sync.config import NetworkSection
from sync.domain.errors import Reason
from sync.domain.journal import Bad, Held, Journal, ModelState, Phase, Watched
from sync.domain.ports import ModelHealth, ServerHealth, VersionHealth
from sync.domain.situation import SeenNeighbours, Situation, Trouble, Wanted
from tests.unit.sync.agent.world import release

NOW = 1_790_000_000.0
OUTCOMES = ("", "committed", "committed_idle", "failed", "rolled_back")
READY = ServerHealth("b", "0.1.0", models={"m": ModelHealth(versions={16: VersionHealth("ready")})})
POLLED = Situation(polled_at=NOW - 60, next_poll_at=NOW + 900, wanted={"m": Wanted(17, "r-1")})


def state_in(phase: Phase, *, first: bool = False, **fields: object) -> ModelState:
    """16 serves, and 17 comes; first: nothing was there before."""
    old, new = None if first else release(16), release(17)
    versions: dict[Phase, dict[str, object]] = {
        Phase.IDLE: {"active": old},
        Phase.STAGING: {"active": old, "candidate": new},
        Phase.SWAPPING: {"active": old, "candidate": new},
        Phase.PROBATION: {"active": new, "previous": old},
        Phase.ROLLING_BACK: {"active": old, "bad": (Bad(new.release, 17, "load_failed", 1),)},
    }
    return msgspec.structs.replace(ModelState(phase=phase), **versions[phase], **fields)


def told(state: ModelState, situation: Situation | None = POLLED, **view: object) -> ModelTold:
    given = {"running": True, "server": READY, "zone": UTC, **view}
    view_ = View(Journal(models={"m": state}), NOW, situation, **given)  # type: ignore[arg-type]
    assert as_text(tell(view_))
    return tell(view_).models["m"]


def test_every_reason_has_its_words_and_every_phase() -> None:
    assert REASONS.keys() == set(Reason)
    assert PHASES.keys() == set(Phase)
    assert len({words.what for words in REASONS.values()}) == len(Reason), "and none those of another"


@pytest.mark.parametrize(("phase", "first"), list(product(Phase, (False, True))))
def test_in_every_phase_with_every_reason_and_outcome_a_person_is_told_what_is_and_what_comes(
    phase: Phase, first: bool
) -> None:
    for reason, outcome in product([None, *Reason], OUTCOMES):
        fields = {"reason": reason.value, "detail": "what came"} if reason is not None else {}
        model = told(state_in(phase, first=first, outcome=outcome, **fields))
        said = "\n".join(filter(None, (model.now, model.last, model.why, model.next)))
        assert model.now, (phase, reason, outcome)
        assert model.next, (phase, reason, outcome)
        assert not re.search(r"None|Phase|Reason|  |\(\)|^[ ;.,]|[ ;,]$", said, re.MULTILINE), said
        if reason is not None and (phase is not Phase.IDLE or outcome in ("failed", "rolled_back")):
            assert REASONS[reason].what in said
            assert "what came" in said


def test_a_reason_of_a_newer_agent_stands_for_itself() -> None:
    assert words_of("moon_phase").what == "moon_phase"
    assert "moon_phase (full)" in told(state_in(Phase.STAGING, reason="moon_phase", detail="full")).why


def test_a_download_that_waits_for_its_hour_says_the_hour_and_how_much_is_here() -> None:
    state = state_in(Phase.STAGING, reason="deferred", detail="downloads wait for 22:00")
    size = state.candidate.files[0].size if state.candidate else 0
    model = told(state, msgspec.structs.replace(POLLED, acts_at={"m": NOW + 3600}), here={"m": size - 1})
    assert "downloads wait for 22:00" in model.why
    assert f"{size - 1} B of {size} B are here" in model.now
    assert "the download goes on at that hour" in model.next, "which is not when the agent looks at its clock again"
    unreachable = state_in(Phase.STAGING, reason="net_unreachable", detail="no route")
    again = told(unreachable, msgspec.structs.replace(POLLED, acts_at={"m": NOW + 3600})).next
    assert f"the download goes on at {moment(NOW + 3600, NOW, UTC)}" in again


def test_a_version_whose_turn_has_not_come_says_when_it_does() -> None:
    model = told(state_in(Phase.IDLE), msgspec.structs.replace(POLLED, acts_at={"m": NOW + 1800}))
    assert (model.runs, model.wanted, model.rollout) == (16, 17, "r-1")
    assert "its turn has not come" in model.why
    assert moment(NOW + 1800, NOW, UTC) in model.next


def test_what_is_refused_is_told_with_what_runs_instead() -> None:
    refused = {"m": Trouble("no_variant", "m@17: no variant (tpu) runs on cpu")}
    model = told(state_in(Phase.IDLE), Situation(polled_at=NOW, wanted={"m": Wanted(16)}, refused=refused))
    assert "no build of it is for this device" in model.why
    assert "m@17" in model.why
    nothing = told(state_in(Phase.IDLE), Situation(polled_at=NOW, refused=refused))
    assert "nothing that it is wished to run can be taken" in nothing.now


def test_what_runs_and_is_wanted_has_no_why() -> None:
    model = told(state_in(Phase.IDLE, outcome="committed"), Situation(polled_at=NOW, wanted={"m": Wanted(16)}))
    assert (model.now, model.why) == ("it runs what is wanted", "")
    assert model.last == "version 16 was taken, and proved itself"


def test_a_release_that_cools_down_says_until_when_and_one_that_is_bad_says_what_helps() -> None:
    cooling = Bad(release(17).release, 17, "hash_mismatch", 1, NOW + 3600)
    state = state_in(Phase.IDLE, outcome="failed", reason="hash_mismatch", detail="want a, got b", bad=(cooling,))
    assert f"not tried again before {moment(NOW + 3600, NOW, UTC)}" in told(state).last
    for_good = msgspec.structs.replace(state, bad=(msgspec.structs.replace(cooling, until=0.0),))
    assert "a newer version is, or a newer pin" in told(for_good).last


def test_a_model_that_no_document_names_stays_as_it_is() -> None:
    model = told(state_in(Phase.IDLE), Situation(polled_at=NOW))
    assert (model.now, model.next.partition(";")[0]) == ("no document names it", "it stays as it is")


def test_a_probation_says_how_far_it_is_and_what_was_counted() -> None:
    state = state_in(Phase.PROBATION, watched=Watched(seconds=420.0, answered=10, failures=1))
    server = ServerHealth("b", models={"m": ModelHealth(versions={17: VersionHealth("ready", answered=5, failures=2)})})
    model = told(state, server=server)
    assert "7 min of 10 min are over" in model.now
    assert "15 answers, 3 failures" in model.now
    assert "version 16 serves again" in model.next


def test_an_agent_that_does_not_run_promises_nothing() -> None:
    for phase in Phase:
        assert "until the agent is started" in told(state_in(phase), running=False).next
    assert "does not run" in tell(View(Journal(), NOW)).agent


def test_a_poll_that_failed_is_told_with_when_the_next_one_is_and_what_may_be_done() -> None:
    problem = Trouble("stale_metadata", "timestamp.json is expired")
    text = tell(View(Journal(), NOW, msgspec.structs.replace(POLLED, problem=problem), running=True, zone=UTC)).agent
    assert "the store's signatures have ended (timestamp.json is expired)" in text
    assert moment(POLLED.next_poll_at, NOW, UTC) in text
    assert "edge-sync refresh" in text


def test_a_server_that_does_not_answer_is_said_in_its_words() -> None:
    told_ = tell(
        View(Journal(models={"m": state_in(Phase.ROLLING_BACK)}), NOW, POLLED, True, "admin.sock: no such file")
    )
    assert told_.server == "admin.sock: no such file"
    assert "admin.sock: no such file" in told_.models["m"].why


def test_reports_that_were_refused_are_counted_with_why_the_last_one_was() -> None:
    def lines(count: int) -> list[str]:
        refused = RefusedReports(count, 7, "want 2xx, got 400")
        text = as_text(tell(View(Journal(), NOW, waiting_reports=2, refused_reports=refused)))
        return [line for line in text.splitlines() if line.startswith("reports")]

    assert lines(0) == ["reports 2 wait to be sent"]
    assert lines(1)[1] == "reports 1 was refused for ever, and dropped: number 7: want 2xx, got 400"
    assert "3 were refused for ever, and dropped; the last is number 7: want 2xx" in lines(3)[1]


@pytest.mark.parametrize(
    ("peers", "found", "line"),
    [
        ("off", None, "peers   off: files come from the store alone"),
        ("use", SeenNeighbours(3, 1), "peers   use: neighbours are asked for files; 3 seen, 1 banned for giving other bytes"),
        ("use", None, "peers   use: neighbours are asked for files; how many there are is not known"),
        ("use_and_share", SeenNeighbours(), "peers   use_and_share: neighbours are asked for files, and given them; none seen, none is banned"),
    ],
)  # fmt: skip
def test_neighbours_have_a_line_with_how_many_there_are(peers: str, found: SeenNeighbours | None, line: str) -> None:
    situation = msgspec.structs.replace(POLLED, neighbours=found)
    assert line in as_text(tell(View(Journal(), NOW, situation, running=True, peers=peers))).splitlines()
    if peers != "off":
        stopped = as_text(tell(View(Journal(), NOW, situation, running=False, peers=peers)))
        assert "how many there are is not known" in stopped, "it is of a process that is gone"


def test_every_way_to_use_neighbours_has_its_words() -> None:
    assert set(get_args(get_type_hints(NetworkSection)["peers"])) == PEERS.keys()


def test_an_empty_device_says_so() -> None:
    assert "no model is installed, and none is wanted" in as_text(tell(View(Journal(), NOW, POLLED and Situation())))


def test_instants_and_durations_are_said_as_people_say_them() -> None:
    assert moment(NOW + 60, NOW, UTC).count(":") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", moment(NOW + 90_000, NOW, UTC))
    assert moment(1e300, NOW, UTC)
    assert [lasting(each) for each in (-1, 45, 130, 7300, 3 * 86400)] == ["0 s", "45 s", "2 min", "2 h", "3 days"]
    assert because("", "detail") == "detail"


def test_what_is_wanted_is_said_only_where_it_is_known() -> None:
    state = state_in(Phase.IDLE)
    for situation, said in (
        (None, "wanted  not known yet"),
        (Situation(next_poll_at=NOW + 60), "wanted  not known yet"),
        (Situation(polled_at=NOW), "wanted  nothing"),
        (POLLED, "wanted  version 17, by the rollout r-1"),
    ):
        assert said in as_text(tell(View(Journal(models={"m": state}), NOW, situation, running=True, zone=UTC)))
    view = View(Journal(), NOW, Situation(next_poll_at=NOW + 60), running=True, zone=UTC)
    assert f"has not asked the store yet, which it does at {moment(NOW + 60, NOW, UTC)}" in tell(view).agent


@pytest.mark.parametrize(("by", "said"), [("pin", "told to stay at"), ("rollback", "taken back to")])
def test_who_holds_a_model_and_how_it_is_let_go_of_is_said(by: Literal["pin", "rollback"], said: str) -> None:
    holds = {"m": Held(16, release(16).release, by, NOW - 3600)}
    view = View(Journal(models={"m": state_in(Phase.IDLE)}, holds=holds), NOW, POLLED, running=True, server=READY)
    model = tell(view).models["m"]
    assert model.held == 16
    assert said in model.hold
    assert "by the command unpin" in model.hold
    assert model.now == "it is held, and version 17 waits"
    assert model.hold in as_text(tell(view))
    pinned = replace(view, situation=msgspec.structs.replace(POLLED, wanted={"m": Wanted(17, "pin")}))
    assert tell(pinned).models["m"].hold.endswith("the operator's pin goes before that")
