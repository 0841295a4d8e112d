"""What the agent is doing, in words for a person on the device. Pure."""

from __future__ import annotations

from sync.domain.journal import Journal, ModelState, Phase


def tell(journal: Journal) -> str:
    if not journal.models:
        return "nothing is installed, and nothing is under way"
    return "\n".join(line for name, state in sorted(journal.models.items()) for line in _lines(name, state))


def _lines(name: str, state: ModelState) -> list[str]:
    runs = f"version {state.active.version}" if state.active is not None else "nothing"
    lines = [f"{name}: runs {runs}"]
    new = state.candidate.version if state.candidate is not None else None
    if state.phase is Phase.STAGING:
        lines.append(f"  version {new} is wanted; its files are on their way" + _why(state))
        lines.append("  next: the server tries it, and swaps it in when it passes")
    elif state.phase is Phase.SWAPPING:
        lines.append(f"  version {new} is here; the server tries it" + _why(state))
        lines.append("  next: it serves, and is watched")
    elif state.phase is Phase.PROBATION:
        back = state.previous.version if state.previous is not None else None
        lines.append(f"  it is new, and watched for {state.probation.seconds:g} s" + _why(state))
        lines.append(f"  next: it stays, or version {back} serves again" if back is not None else "  next: it stays")
    elif state.phase is Phase.ROLLING_BACK:
        lines.append(f"  the new version is given up ({state.reason}: {state.detail}); the old one is asked for again")
    elif state.outcome in ("failed", "rolled_back"):
        bad = f"version {state.bad[-1].version}" if state.bad else "the new version"
        lines.append(f"  {bad} was given up: {state.reason}: {state.detail}")
        lines.append("  next: it is not tried again; a newer version, or a pin, is")
    elif state.outcome:
        lines.append(f"  {state.outcome.replace('_', ': ')}" + (f" ({state.detail})" if state.detail else ""))
    return lines


def _why(state: ModelState) -> str:
    return f", but: {state.reason}: {state.detail}" if state.reason else ""
