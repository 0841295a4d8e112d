"""What somebody beside the device may ask of it without a signature: that it stays where it is, or goes back to where it was.

Rule 1: pure. Rule 2: a hold names a release that is here, which somebody has signed for this device; it brings nothing here. Rule 3: it
holds against going forward, and against nothing else: a signed pin of this device goes before it, and so does the recall of the
version that is held, and the floor of `min_counter`. Rule 4: where what is held is no longer to be had, what runs is held.
"""

from __future__ import annotations

from sync.domain.errors import OperatorError
from sync.domain.journal import Held, Installed, ModelState, Phase
from sync.domain.rollout import Wish
from sync.domain.update import Target, known_bad

HOLD = "hold"
"""What asked for an update, in the place of a rollout's id, where a hold did."""


def pin(state: ModelState, version: int | None, target: Target | None, now: float) -> Held:
    """At what runs, or at `version` where that is here. now: seconds since the epoch. Raises OperatorError."""
    kept = [each for each in (state.active, state.previous) if each is not None]
    if not kept:
        raise OperatorError("nothing runs that could be held")
    if version is None:
        return _held(kept[0], "pin", state, target, now)
    for each in kept:
        if each.version == version:
            return _held(each, "pin", state, target, now)
    here = " or ".join(str(each.version) for each in kept)
    raise OperatorError(f"want a version that is here, {here}, got {version}: a hold brings none")


def rollback(state: ModelState, held: Held | None, target: Target | None, now: float) -> Held:
    """At the version before: of an update that is being swapped in, the one that it would replace; else the one that is kept. What was
    rolled back before is not again: then `held`. Raises OperatorError."""
    if held is not None and held.by == "rollback":
        return held
    before = state.active if state.phase in (Phase.SWAPPING, Phase.ROLLING_BACK) else state.previous
    if before is None:
        raise OperatorError("there is no version before it to go back to")
    return _held(before, "rollback", state, target, now)


def _held(release: Installed, by: str, state: ModelState, target: Target | None, now: float) -> Held:
    held = Held(release.version, release.release, "rollback" if by == "rollback" else "pin", now)
    if known_bad(state, release.release, Wish(release.version, HOLD), now) is not None:
        raise OperatorError(f"version {release.version} failed here, and is not gone back to")
    if why := _goes_before(release, held, state, target):
        raise OperatorError(f"version {release.version} cannot be held: {why}")
    return held


def aimed(state: ModelState, held: Held | None, target: Target | None, now: float) -> Target | None:
    """Where the model goes: `target`, which the documents say, or what is held. None where nobody says anything.

    now: seconds since the epoch.
    """
    if held is None:
        return target
    release = _kept(state, held, now) or state.active
    if release is None or _goes_before(release, held, state, target):
        return target
    wish = Wish(release.version, HOLD)
    if target is None:
        return Target(release, wish, state.seq, state.probation, state.swap, urgent=True)
    return target._replace(release=release, wish=wish, wished=None, urgent=True)


def goes_before(state: ModelState, held: Held, target: Target | None, now: float) -> str:
    """What the documents say against the hold; "" for nothing."""
    release = _kept(state, held, now) or state.active
    return _goes_before(release, held, state, target) if release is not None else ""


def _goes_before(release: Installed, held: Held, state: ModelState, target: Target | None) -> str:
    least = max(state.min_counter, target.min_counter if target is not None else 0)
    if release.counter < least:
        return f"want a release counter of at least {least}, got {release.counter}"
    if target is None:
        return ""
    if target.wish.rollout == "pin":
        return f"the operator has pinned this device to version {target.wish.version}"
    if target.recalled == release.version:
        return f"version {release.version} is rolled back everywhere"
    return ""


def _kept(state: ModelState, held: Held, now: float) -> Installed | None:
    """The release that is held, where it is here and may be served."""
    if known_bad(state, held.release, Wish(held.version, HOLD), now) is not None:
        return None
    for each in (state.active, state.candidate, state.previous):
        if each is not None and (each.release, each.version) == (held.release, held.version):
            return each
    return None
