"""One update's decisions and transitions, each a pure function from one `ModelState` to the next.

Rule 1: `journal.step` says what may follow what. Rule 2: a release that failed here is not taken again, unless its time
has come or a newer pin asks for it. Rule 3: what is below `min_counter` is never taken, whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from sync.domain.digests import Digest
from sync.domain.errors import Reason, Unsuitable
from sync.domain.journal import (
    MAX_BAD,
    Bad,
    Baseline,
    FileRef,
    Installed,
    ModelState,
    Phase,
    Step,
    Watched,
    aspired,
    step,
)
from sync.domain.release import Manifest, choose_variant
from sync.domain.rollout import Probation, Wish

UNKNOWN = Digest("")
"""The release of a version that was found on the disk after the journal was lost."""
MAX_TRIES = 3
"""Crashes and errors that an update may meet in one phase."""


class Target(NamedTuple):
    """A release that this device should go to, and how. `seq`: of the rollout document. `urgent`: no window holds it back.

    `wished`: the rollouts of all that the device is wished to follow, also of what it cannot or may not yet; None where that is
    not known. `recalled`: the version that the whole group is to leave; None for none.
    """

    release: Installed
    wish: Wish
    seq: int
    probation: Probation
    swap: Literal["beside", "replace"]
    min_rate_Bps: int = 0
    min_counter: int = 0
    urgent: bool = False
    wished: frozenset[str] | None = None
    recalled: int | None = None


def accept(
    wish: Wish,
    manifest: Manifest,
    digest: Digest,
    state: ModelState,
    *,
    model: str,
    accelerators: Sequence[str],
    memory_mb: int | None,
    now: float,
) -> Installed:
    """The release as this device would install it. Raises Unsuitable.

    memory_mb: MiB that may be used, None for no bound. now: seconds since the epoch.
    """
    what = f"{model}@{wish.version}"
    if (manifest.name, manifest.version) != (model, wish.version):
        raise Unsuitable(f"{what}: its manifest is that of {manifest.name}@{manifest.version}")
    least = max(state.min_counter, manifest.min_counter)
    if manifest.release_counter < least:
        raise Unsuitable(f"{what}: want a release counter of at least {least}, got {manifest.release_counter}")
    bad = known_bad(state, digest, wish, now)
    if bad is not None:
        again = " for now" if bad.until else ""
        raise Unsuitable(f"{what}: failed here ({bad.reason}) and is not tried again{again}", Reason(bad.reason))
    for kept in (state.active, state.previous):
        if kept is not None and kept.version == wish.version and kept.release not in (digest, UNKNOWN):
            raise Unsuitable(f"{what}: is here with other contents; a version never changes")
    variant = choose_variant(manifest, accelerators, memory_mb)
    files = tuple(FileRef(file.path, file.digest, file.size) for file in variant.files)
    return Installed(wish.version, digest, variant.id, files, manifest.share, manifest.release_counter)


def known_bad(state: ModelState, digest: Digest, wish: Wish, now: float) -> Bad | None:
    """How the release failed here, where it is not to be tried again. now: seconds since the epoch."""
    for bad in state.bad:
        cleared = wish.pin_seq is not None and wish.pin_seq > bad.seq
        # A clock that has gone back since it failed says nothing of how long ago that was.
        over = bad.until and not bad.at <= now < bad.until
        if bad.release == digest and not cleared and not over:
            return bad
    return None


def waits_s(state: ModelState, wish: Wish, now: float) -> float:
    """Seconds until the device may begin with a wish that `first_seen` is of; at most the wish's own, whatever the clock does."""
    if state.active is None:
        return 0.0
    return min(max(state.first_seen + wish.wait_s - now, 0.0), wish.wait_s)


def seen(state: ModelState, wish: Wish, now: float) -> ModelState:
    """The state with the wish noted, the same object where it was noted before. Another wish has no outcome yet."""
    if state.rollout == wish.rollout and state.first_seen:
        return state
    fresh = {} if state.rollout == wish.rollout else _outcome()
    return msgspec.structs.replace(state, rollout=wish.rollout, first_seen=now, **fresh)


def unwished(state: ModelState, wished: frozenset[str] | None) -> ModelState:
    """The state without the moment at which its wish arose, where the documents no longer have that wish: a rollout that goes on
    after a pause is spread as it was at first. The same object where nothing is forgotten."""
    if wished is None or not state.first_seen or state.rollout in wished:
        return state
    return msgspec.structs.replace(state, first_seen=0.0)


def told(before: ModelState, after: ModelState) -> ModelState:
    """`after`, of the next generation where the server is to be told something else than `before`."""
    same = msgspec.structs.replace(after, generation=before.generation)
    return same if aspired(same) == aspired(before) else msgspec.structs.replace(same, generation=before.generation + 1)


def begin(state: ModelState, target: Target, now: float) -> ModelState:
    return msgspec.structs.replace(
        state,
        phase=step(state.phase, Step.BEGIN),
        candidate=target.release,
        rollout=target.wish.rollout,
        seq=max(target.seq, target.wish.pin_seq or 0),  # a pin does not clear what failed under it
        first_seen=0.0,
        tries=0,
        since=now,
        probation=target.probation,
        swap=target.swap,
        min_counter=max(state.min_counter, target.min_counter),
        **_outcome(),
    )


def retried(state: ModelState, reason: Reason | None = None, detail: str = "") -> ModelState:
    """One more try of the same phase: after a crash, or an error that another try may not meet."""
    return msgspec.structs.replace(
        state, tries=state.tries + 1, reason=reason.value if reason else state.reason, detail=detail or state.detail
    )


def held_up(state: ModelState, reason: Reason, detail: str) -> ModelState:
    """Nothing was tried: it waits for what `reason` says."""
    return msgspec.structs.replace(state, reason=reason.value, detail=detail)


def going_on(state: ModelState) -> ModelState:
    """What held it up is over."""
    return msgspec.structs.replace(state, **_outcome())


def staged(state: ModelState, baseline: Baseline, now: float) -> ModelState:
    return msgspec.structs.replace(
        state, phase=step(state.phase, Step.STAGED), baseline=baseline, tries=0, since=now, **_outcome()
    )


def swapped(state: ModelState, boot: str, now: float) -> ModelState:
    """The commit point: from here on the candidate is what the device runs, and the old version what it may go back to."""
    return msgspec.structs.replace(
        state,
        phase=step(state.phase, Step.READY),
        previous=state.active,
        active=state.candidate,
        candidate=None,
        watched=Watched(boot=boot),
        tries=0,
        since=now,
    )


def committed(state: ModelState, detail: str, now: float) -> ModelState:
    """`detail`: why it was committed without having been judged by its answers, or ""."""
    outcome = "committed_idle" if detail else "committed"
    return msgspec.structs.replace(
        state, phase=step(state.phase, Step.HEALTHY), since=now, **_outcome(outcome, detail=detail)
    )


def abandoned(state: ModelState, now: float) -> ModelState:
    """Nobody wants the candidate any more. It is not bad."""
    return msgspec.structs.replace(
        state, phase=step(state.phase, Step.FAIL), candidate=None, since=now, **_outcome(detail="no longer wanted")
    )


def failed(state: ModelState, reason: Reason, detail: str, now: float, *, again_after_s: float = 0.0) -> ModelState:
    """The candidate, or in probation the new version, is bad; the old one is wanted again.

    again_after_s: when it may be tried again, 0 for never.
    """
    phase = step(state.phase, Step.FAIL)
    release = state.active if state.phase is Phase.PROBATION else state.candidate
    assert release is not None
    until = now + again_after_s if again_after_s else 0.0
    bad = Bad(release.release, release.version, reason.value, state.seq, until, now)
    others = tuple(each for each in state.bad if each.release != bad.release)
    in_probation = state.phase is Phase.PROBATION
    return msgspec.structs.replace(
        state,
        phase=phase,
        active=state.previous if in_probation else state.active,
        previous=None if in_probation else state.previous,
        candidate=None,
        bad=(*others, bad)[-MAX_BAD:],
        since=now,
        **_outcome("rolled_back" if in_probation else "failed", reason.value, detail),
    )


def recalled(state: ModelState, now: float) -> ModelState:
    """The new version is no longer wanted, and the old one is again. It is not bad."""
    in_probation = state.phase is Phase.PROBATION
    return msgspec.structs.replace(
        state,
        phase=step(state.phase, Step.FAIL),
        active=state.previous if in_probation else state.active,
        previous=None if in_probation else state.previous,
        candidate=None,
        since=now,
        **_outcome("rolled_back", Reason.ROLLED_BACK_OPERATOR.value, "no longer wanted"),
    )


def outlived(state: ModelState, now: float) -> ModelState:
    """The new version is no longer wanted, but serves, and there is no other: it stays until the next one does. That is no success."""
    return msgspec.structs.replace(
        state,
        phase=step(state.phase, Step.HEALTHY),
        since=now,
        **_outcome(detail="no longer wanted, and kept until another serves"),
    )


def back(state: ModelState, now: float, *, no_model: str = "") -> ModelState:
    """The old version serves again, or (`no_model`: why) nothing does."""
    changed = msgspec.structs.replace(state, phase=step(state.phase, Step.BACK), since=now)
    if not no_model:
        return changed
    detail = f"{state.reason}: {state.detail}; {no_model}"
    return msgspec.structs.replace(changed, reason=Reason.NO_MODEL.value, detail=detail)


def _outcome(outcome: str = "", reason: str = "", detail: str = "") -> dict[str, str]:
    return {"outcome": outcome, "reason": reason, "detail": detail}
