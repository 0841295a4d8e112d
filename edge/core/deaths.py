"""What the last processes died of, so that no model can make a crash loop.

Two records outlive the process, both in the state directory: `boots.json`, replaced by rename, says which version
was being loaded and which had served for less than `SETTLED_S`; the black box says whose code was running.

Rule 1: a version that was being loaded when the last process ended is a suspect: it is tried in a child first.
Rule 2: a version whose code was running when the process died, before it had settled, may have caused it; after
        `MAX_DEATHS` it is blamed, and while it is the same files another one of its model is served.
Rule 3: where there is no other, it is served all the same, unless so many deaths were crashes: whoever pulls the plug
        twice shall not find a model gone, and no model can make a loop of crashes.
Rule 4: a version that settles is forgiven. Rule 5: without a state directory nothing is remembered, and nothing fails.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.core.blackbox import BlackBox, Mark
from edge.core.durable import replace_durably
from edge.domain.models import Artifact
from edge.files import open_regular

log = logging.getLogger(__name__)

MAX_DEATHS = 2
SETTLED_S = 60.0
FORMAT = "edge-boots/1"
MAX_FILE_BYTES = 1 << 20

Key = tuple[str, int, str]


def _key(artifact: Artifact) -> Key:
    return artifact.id.name, artifact.id.version, artifact.fingerprint


@dataclass(frozen=True, slots=True)
class Count:
    """Deaths while a version ran, and how many of them were crashes."""

    deaths: int = 0
    crashes: int = 0


class Deaths:
    """Methods block on the disk where they say so; call those off the event loop.

    `crashed`: whether the last process died of a fatal signal, and was not killed.
    """

    def __init__(self, state_dir: Path | None, *, crashed: bool = False) -> None:
        """Read what the last process left and start a record of this one. Blocks."""
        self._path = state_dir / "boots.json" if state_dir else None
        self._box: BlackBox | None = None
        self._lock = threading.Lock()
        self._loading: set[Key] = set()
        self._unsettled: set[Key] = set()
        self._counts: dict[Key, Count] = {}
        self.suspects: frozenset[Key] = frozenset()
        self.last_exit = "unknown"
        if state_dir is not None:
            self._open(state_dir, crashed)

    def _open(self, state_dir: Path, crashed: bool) -> None:
        assert self._path is not None
        last = _load(self._path)
        self._counts = dict(last.deaths)
        self.suspects = frozenset(last.loading)
        self.last_exit = "clean" if last.clean else "crashed" if crashed else "killed"
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._box = BlackBox(state_dir / "running.bin")
        except OSError as error:
            log.warning("%s: cannot be written (%s); deaths will not be remembered", state_dir, error)
            self._path = None
            return
        if not last.clean:
            running = {(model.name, model.version, fingerprint) for model, fingerprint in self._box.found}
            for key in running & last.unsettled:
                before = self._counts.get(key, Count())
                count = self._counts[key] = Count(before.deaths + 1, before.crashes + crashed)
                log.warning("%s@%d was running when the last process died (%d)", key[0], key[1], count.deaths)
        self._write(clean=False)

    def suspect(self, artifact: Artifact) -> bool:
        return _key(artifact) in self.suspects or bool(self.blamed(artifact))

    def blamed(self, artifact: Artifact, *, last_resort: bool = False) -> str:
        """Why this version may not be loaded, or empty. `last_resort`: its model has no other that may serve."""
        count = self._counts.get(_key(artifact), Count())
        if (count.crashes if last_resort else count.deaths) < MAX_DEATHS:
            return ""
        return f"the server died {count.deaths} times while this version ran, within {SETTLED_S:g} s of its start"

    def forgive(self, names: Iterable[str]) -> None:
        """A person asked for these models again: what they did before does not count. Blocks."""
        gone = set(names)
        self._counts = {key: count for key, count in self._counts.items() if key[0] not in gone}
        self._write(clean=False)

    def mark(self, artifact: Artifact) -> Mark:
        return self._box.mark(artifact.id, artifact.fingerprint) if self._box else Mark()

    def loading(self, artifact: Artifact) -> None:
        """Durable before the load begins. Blocks."""
        self._loading.add(_key(artifact))
        self._write(clean=False)

    def loaded(self, artifact: Artifact, *, serving: bool) -> None:
        """The load came to an end, and the version serves or has failed. Blocks."""
        self._loading.discard(_key(artifact))
        if serving:
            self._unsettled.add(_key(artifact))
        self._write(clean=False)

    def settled(self, artifact: Artifact) -> None:
        """It has served for `SETTLED_S`. Blocks."""
        self._unsettled.discard(_key(artifact))
        self._counts.pop(_key(artifact), None)
        self._write(clean=False)

    def close(self) -> None:
        """The process ends because it was asked to. Blocks."""
        self._write(clean=True)
        if self._box is not None:
            self._box.close()

    def _write(self, *, clean: bool) -> None:
        if self._path is None:
            return
        with self._lock:
            record = {
                "format": FORMAT,
                "clean": clean,
                "loading": sorted(self._loading),
                "unsettled": sorted(self._unsettled),
                "deaths": [[*key, count.deaths, count.crashes] for key, count in sorted(self._counts.items())],
            }
            try:
                replace_durably(self._path, json.dumps(record).encode())
            except OSError as error:
                log.warning("%s: cannot be written: %s", self._path, error)


@dataclass(frozen=True, slots=True)
class _Last:
    """What the process before this one left."""

    clean: bool = True
    loading: frozenset[Key] = frozenset()
    unsettled: frozenset[Key] = frozenset()
    deaths: Mapping[Key, Count] = field(default_factory=dict)


def _load(path: Path) -> _Last:
    """An absent or damaged record is an empty one: it may cost a child's trial, never the start."""
    try:
        with open_regular(path) as file:
            record = json.loads(file.read(MAX_FILE_BYTES))
        return _Last(
            clean=bool(record["clean"]),
            loading=frozenset(_as_key(*row) for row in record["loading"]),
            unsettled=frozenset(_as_key(*row) for row in record["unsettled"]),
            deaths={_as_key(*row[:3]): Count(*map(int, row[3:])) for row in record["deaths"]},
        )
    except FileNotFoundError:
        return _Last()
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        log.warning("%s: unreadable (%s); deaths before now are forgotten", path, error)
        return _Last()


def _as_key(name: object, version: object, fingerprint: object) -> Key:
    return str(name), int(str(version)), str(fingerprint)
