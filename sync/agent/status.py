"""What the agent is doing, in words for a person on the device. Pure.

Rule 1: of each model it says what runs, what is wanted, why not yet, and what happens next; for every phase and every reason.
Rule 2: the journal says what was done; the situation, where the agent has left one, what is wished and when something happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sync.agent.around import of_broker, of_hold, of_neighbours, of_reports, of_rollout
from sync.agent.here import bytes_of
from sync.agent.told import ModelTold, Told
from sync.agent.view import View
from sync.agent.witness import version_of
from sync.agent.words import advice, amount, because, lasting, moment, words_of
from sync.domain.errors import Reason
from sync.domain.journal import ModelState, Phase
from sync.domain.ports import ServerHealth
from sync.domain.situation import Situation
from sync.domain.update import MAX_TRIES


def tell(view: View) -> Told:
    situation = view.situation or Situation()
    names = {*view.journal.models, *situation.wanted, *situation.refused, *view.journal.holds}
    return Told(
        running=view.running,
        agent=_agent(view, situation),
        polled_at=situation.polled_at,
        next_poll_at=situation.next_poll_at,
        signed_until=situation.signed_until,
        problem=situation.problem,
        waiting_reports=view.waiting_reports,
        refused_reports=view.refused_reports,
        peers=view.peers,
        neighbours=situation.neighbours if view.running and view.peers != "off" else None,
        server=f"answers (edge {view.server.version})" if isinstance(view.server, ServerHealth) else view.server,
        broker=situation.broker if view.running else None,
        models={name: _model(name, view, situation) for name in sorted(names)},
    )


def as_text(told: Told) -> str:
    lines = [f"agent   {told.agent}", f"server  {told.server}", of_neighbours(told.peers, told.neighbours)]
    lines += of_broker(told.broker)
    lines += of_reports(told.waiting_reports, told.refused_reports)
    for name, model in told.models.items():
        runs = f"version {model.runs}, {model.serving}" if model.runs is not None else "nothing"
        unknown = "nothing" if told.polled_at else "not known yet"
        wanted = f"version {model.wanted}" if model.wanted is not None else unknown
        lines += [name, f"  runs    {runs}", f"  wanted  {wanted}" + of_rollout(model.rollout)]
        lines += [
            f"  {key:7} {text}" for key in ("hold", "now", "last", "why", "next") if (text := getattr(model, key))
        ]
    if not told.models:
        lines.append("no model is installed, and none is wanted")
    return "\n".join(lines)


def _agent(view: View, situation: Situation) -> str:
    if not view.running:
        return "does not run: nothing happens until it is started"
    if situation.problem is not None:
        problem, again = situation.problem, ""
        if situation.next_poll_at > view.now:
            again = f"; it asks again at {_at(view, situation.next_poll_at)}"
        do = words_of(problem.reason).do
        return f"runs, but its last poll failed: {because(problem.reason, problem.detail)}{again}" + (
            f"; {do}" if do else ""
        )
    if not situation.polled_at:
        first = f", which it does at {_at(view, situation.next_poll_at)}" if situation.next_poll_at > view.now else ""
        return f"runs, and has not asked the store yet{first}"
    text = f"runs; it asked the store at {_at(view, situation.polled_at)}"
    if situation.next_poll_at > view.now:
        text += f", and asks again at {_at(view, situation.next_poll_at)}"
    return text


@dataclass(frozen=True, slots=True)
class _Said:
    now: str
    next: str
    why: str = ""


def _model(name: str, view: View, situation: Situation) -> ModelTold:
    state = view.journal.models.get(name, ModelState())
    wanted = situation.wanted.get(name)
    said = PHASES[state.phase](name, state, view, situation)
    under_way = {Phase.IDLE: None, Phase.STAGING: state.candidate, Phase.SWAPPING: state.candidate}.get(
        state.phase, state.active
    )
    version = wanted.version if wanted is not None else under_way.version if under_way is not None else None
    return ModelTold(
        runs=state.active.version if state.active is not None else None,
        serving=_serving(name, state, view),
        wanted=version,
        rollout=wanted.rollout if wanted is not None else state.rollout,
        phase=state.phase.value,
        outcome=state.outcome,
        reason=state.reason,
        detail=state.detail,
        tries=state.tries,
        now=said.now,
        last=_last(state, view) if state.phase is Phase.IDLE else "",
        why=said.why,
        next=said.next if view.running else "nothing until the agent is started; then it goes on from here",
        held=held.version if (held := view.journal.holds.get(name)) is not None else None,
        hold=of_hold(held, wanted, _at(view, held.at)) if held is not None else "",
    )


def _serving(name: str, state: ModelState, view: View) -> str:
    if not isinstance(view.server, ServerHealth):
        return "as far as is known: the server does not answer"
    version = version_of(view.server, name, state.active)
    if version is None:
        return "which the server does not know"
    return f"which is {version.state}" + (f" ({version.reason})" if version.reason else "")


def _idle(name: str, state: ModelState, view: View, situation: Situation) -> _Said:
    wanted, refused = situation.wanted.get(name), situation.refused.get(name)
    polls = (
        f"the store is asked again at {_at(view, situation.next_poll_at)}" if situation.next_poll_at > view.now else ""
    )
    polls = polls or "the store is asked again before long"
    why = because(refused.reason, refused.detail) if refused is not None else ""
    if wanted is None and refused is None:
        if not situation.polled_at or situation.problem is not None:
            return _Said("nothing is under way", polls, "what is wanted is not known yet")
        return _Said("no document names it", f"it stays as it is; {polls}")
    if wanted is None:
        return _Said("nothing that it is wished to run can be taken", polls, why)
    if state.active is not None and state.active.version == wanted.version:
        return _Said("it runs what is wanted" + (" as long as it may not go on" if why else ""), polls, why)
    held = view.journal.holds.get(name)
    if (
        held is not None
        and state.active is not None
        and held.version == state.active.version
        and wanted.rollout != "pin"
    ):
        return _Said(f"it is held, and version {wanted.version} waits", f"it stays; {polls}", why)
    begins_at = situation.acts_at.get(name, 0.0)
    if begins_at > view.now:
        turn = "the devices of a rollout begin one after the other, and its turn has not come"
        return _Said(f"version {wanted.version} waits", f"it begins at {_at(view, begins_at)}", why or turn)
    return _Said(f"version {wanted.version} is about to begin", "its files are fetched", why)


def _staging(name: str, state: ModelState, view: View, situation: Situation) -> _Said:
    release = state.candidate
    assert release is not None
    total = bytes_of(release)
    here = min(view.here.get(name, 0), total)
    now = f"the files of version {release.version} are fetched: {amount(here)} of {amount(total)} are here"
    then = "the server tries the version, and swaps it in when it passes"
    if not state.reason:
        return _Said(now, then)
    tries = f"; try {min(state.tries + 1, MAX_TRIES)} of {MAX_TRIES}" if state.tries else ""
    when = "at that hour" if state.reason == Reason.DEFERRED.value else _again(name, view, situation)
    again = f"the download goes on {when}{tries}, then {then}"
    return _Said(now, again, _why(state))


def _swapping(name: str, state: ModelState, view: View, situation: Situation) -> _Said:
    release = state.candidate
    assert release is not None
    now = f"version {release.version} is here, and the server was asked for it"
    version = version_of(view.server, name, release) if isinstance(view.server, ServerHealth) else None
    if version is not None:
        now += f": it is {version.state}" + (f" ({version.reason})" if version.reason else "")
    else_ = f"version {state.active.version} serves on" if state.active is not None else "nothing is served"
    return _Said(now, f"when it is ready it serves, and is watched; if it fails, {else_}", _why(state))


def _probation(name: str, state: ModelState, view: View, situation: Situation) -> _Said:
    release, back = state.active, state.previous
    assert release is not None
    watched = f"{lasting(state.watched.seconds)} of {lasting(state.probation.seconds)}"
    now = f"version {release.version} is new, serves, and is watched; {watched} are over"
    version = version_of(view.server, name, release) if isinstance(view.server, ServerHealth) else None
    if version is not None:
        now += f"; {version.answered + state.watched.answered} answers, {version.failures + state.watched.failures} failures"
    else_ = (
        f"version {back.version} serves again"
        if back is not None
        else "nothing is served, for there was none before it"
    )
    return _Said(now, f"it stays if it does well; if it does not, {else_}", _why(state))


def _rolling_back(name: str, state: ModelState, view: View, situation: Situation) -> _Said:
    given_up = f"version {state.bad[-1].version}" if state.bad else "the new version"
    if state.reason == Reason.ROLLED_BACK_OPERATOR.value:
        given_up = "the new version"
    back = f"version {state.active.version}" if state.active is not None else ""
    asked = (
        f"the server was asked for {back} again"
        if back
        else "the server was told to serve none, for there was none before it"
    )
    next_ = f"{back} serves, and the outcome is reported" if back else "the outcome is reported"
    why = _why(state)
    if not isinstance(view.server, ServerHealth):
        why += f"; it waits for the server: {view.server}" if view.server else ""
    return _Said(f"{given_up} is given up, and {asked}", next_, why)


PHASES: Mapping[Phase, Callable[[str, ModelState, View, Situation], _Said]] = {
    Phase.IDLE: _idle,
    Phase.STAGING: _staging,
    Phase.SWAPPING: _swapping,
    Phase.PROBATION: _probation,
    Phase.ROLLING_BACK: _rolling_back,
}


def _last(state: ModelState, view: View) -> str:
    """How the last update ended."""
    active = f"version {state.active.version}" if state.active is not None else "the version"
    if state.outcome == "committed":
        return f"{active} was taken, and proved itself"
    if state.outcome == "committed_idle":
        return f"{active} was taken, with too little to judge it by" + (f": {state.detail}" if state.detail else "")
    if state.outcome in ("failed", "rolled_back"):
        return _given_up(state, view)
    return f"an update was called off: {state.detail}" if state.detail else ""


def _given_up(state: ModelState, view: View) -> str:
    when = "after it had served" if state.outcome == "rolled_back" else "before it served"
    why = because(state.reason, state.detail) or "nobody noted why"
    if state.reason == Reason.ROLLED_BACK_OPERATOR.value or not state.bad:
        return f"a new version was given up {when}: {why}"
    bad = state.bad[-1]
    if bad.until > view.now:
        again = f"it is not tried again before {_at(view, bad.until)}"
    elif bad.until:
        again = "it may be tried again"
    else:
        again = "it is not tried again; a newer version is, or a newer pin"
    do = words_of(state.reason).do
    return f"version {bad.version} was given up {when}: {why}; {again}" + (f"; {do}" if do else "")


def _why(state: ModelState) -> str:
    return advice(state.reason, state.detail)


def _again(name: str, view: View, situation: Situation) -> str:
    at = situation.acts_at.get(name, 0.0)
    return f"at {_at(view, at)}" if at > view.now else "before long"


def _at(view: View, at: float) -> str:
    return moment(at, view.now, view.zone)
