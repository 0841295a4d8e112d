"""What a crash would lead to now, by model. Pure but for looking at the files that would have to be there.

Rule: every phase has its line, and says who serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge.domain.layout import ASPIRED_FILE
from sync.agent.aspire import encode_aspired
from sync.agent.witness import NOTE_EVERY_S
from sync.agent.words import lasting
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.doctor.look import places_of
from sync.domain.errors import DiskError
from sync.domain.journal import Installed, Journal, ModelState, Phase, aspired
from sync.domain.judge import MAX_DEATHS
from sync.domain.update import MAX_TRIES


def after_a_crash(state: ModelState) -> str:
    """Of the agent, of the server or of the power, in a sentence."""
    return AFTER[state.phase](state)


def _idle(state: ModelState) -> str:
    if state.active is None:
        return "nothing serves; the store is asked"
    return f"version {state.active.version} serves, and the store is asked"


def _staging(state: ModelState) -> str:
    assert state.candidate is not None
    return f"{_serves(state.active)}; the download of version {state.candidate.version} goes on from what is here{_try(state)}"


def _swapping(state: ModelState) -> str:
    assert state.candidate is not None
    new = f"version {state.candidate.version}"
    return (
        f"the server tries {new} again: it serves when it passes, and until then {_serves(state.active)}{_try(state)}"
    )


def _probation(state: ModelState) -> str:
    assert state.active is not None
    deaths = state.watched.deaths + 1
    text = f"version {state.active.version} serves, and is watched on; at most {lasting(NOTE_EVERY_S)} of the watch are lost"
    if deaths < MAX_DEATHS:
        return f"{text}; a death of the server would be number {deaths} of {MAX_DEATHS}"
    return f"{text}; one more death of the server, and {_serves(state.previous)} again"


def _rolling_back(state: ModelState) -> str:
    return f"{_serves(state.active)}: it is asked for again"


AFTER: Mapping[Phase, Callable[[ModelState], str]] = {
    Phase.IDLE: _idle,
    Phase.STAGING: _staging,
    Phase.SWAPPING: _swapping,
    Phase.PROBATION: _probation,
    Phase.ROLLING_BACK: _rolling_back,
}


def check_crash(config: Config, journal: Journal) -> Iterator[Finding]:
    """Blocks."""
    models_dir = places_of(config).models_dir
    for name, state in sorted(journal.models.items()):
        try:
            missing = _missing(models_dir / name, state)
            told = _told(models_dir / name)
        except OSError as error:
            yield fail(
                "crash", DiskError(f"{models_dir / name}: {error.strerror}"), "run this as the agent's user, or as root"
            )
            continue
        text = f"{name}: {after_a_crash(state)}"
        file = aspired(state)
        if missing:
            do = "start the agent anew: it looks at what is installed, and brings again what is not as it was"
            yield fail("crash", DiskError(f"{text}; but {missing}"), do)
        elif file is not None and told != encode_aspired(file):
            do = "nothing, if an update is under way; else start the agent, which writes it again"
            yield warn("crash", f"{text}; what the server is told is not what the journal says", do)
        elif state.phase in (Phase.STAGING, Phase.SWAPPING) and state.tries + 1 >= MAX_TRIES:
            yield warn("crash", text, "see why it ends so often: the agent's log, and the kernel's")
        else:
            yield ok("crash", text)
    if not journal.models:
        yield ok("crash", "nothing is here that could be lost")


def _missing(model: Path, state: ModelState) -> str:
    """What is not there of the versions that may have to serve. Raises OSError."""
    for release in (state.active, state.previous):
        for file in release.files if release is not None else ():
            path = model / str(release.version) / file.path if release is not None else model
            if not path.is_file():
                return f"{path} is not there"
            if path.stat().st_size != file.size:
                return f"{path}: want {file.size} bytes, got {path.stat().st_size}"
    return ""


def _told(model: Path) -> bytes:
    """What the server was told; empty for nothing."""
    try:
        return (model / ASPIRED_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def _serves(release: Installed | None) -> str:
    return f"version {release.version} serves" if release is not None else "nothing serves"


def _try(state: ModelState) -> str:
    crashes = state.tries + 1
    if crashes >= MAX_TRIES:
        return f"; it would be crash {crashes} of {MAX_TRIES}, and the version is given up"
    return f"; it would be crash {crashes} of {MAX_TRIES}"
