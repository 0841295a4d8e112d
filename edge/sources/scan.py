"""One look at a model's directory. Blocks; call it off the event loop.

Rule 1: a version that may still be being written is not there yet: its files and times must have stood still for
`settle_s`. Rule 2: what cannot be read is a problem to report, never an exception and never an empty directory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.domain.layout import ASPIRED_FILE, MAX_ASPIRED_BYTES, MODEL_FILES, version_of
from edge.domain.models import Artifact, ModelId, Platform
from edge.files import open_regular
from edge.sources.stillness import Stillness

MAX_FILES_PER_VERSION = 10_000
MAX_PROBLEMS = 5
"""Of versions that are told; of the others only how many there are."""


@dataclass(frozen=True, slots=True)
class Found:
    """`artifacts` are complete; `unsettled` says that a version is still changing, and another look is due.

    `aspired`: what the file holds, None where there is none. `unreadable`: why it cannot be read, if so.
    """

    artifacts: Mapping[int, Artifact] = field(default_factory=dict)
    aspired: bytes | None = None
    unreadable: str = ""
    problem: str = ""
    unsettled: bool = False
    missing: bool = False


@dataclass(slots=True)
class _Look:
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unsettled: bool = False


class Scanner:
    """Looks at one model's directory, again and again."""

    def __init__(self, name: str, path: Path, *, settle_s: float, prefer: tuple[Platform, ...]) -> None:
        self._name, self._path, self._prefer = name, path, prefer
        self._stillness = Stillness(settle_s)
        self._known: Mapping[int, Artifact] = {}

    def look(self) -> Found:
        # First, for versions are there before they are aspired: those that it names are then in the listing.
        aspired, unreadable = self._read_aspired()
        try:
            entries = sorted(os.scandir(self._path), key=lambda entry: (len(entry.name), entry.name))
        except FileNotFoundError:
            return Found(missing=True, problem=f"{self._path}: no such directory")
        except OSError as error:
            return Found(missing=True, problem=f"{self._path}: {error.strerror}")
        look = _Look()
        for entry in entries:
            version = version_of(entry.name)
            if version is None:
                continue
            try:
                if entry.is_dir():
                    self._take(look, version, Path(entry.path), trusted=aspired is not None or bool(unreadable))
            except OSError as error:
                what = f" ({error.filename!r})" if error.filename else ""
                look.problems.append(f"version {entry.name}: {error.strerror}{what}")
                if version in self._known:  # what is served does not go away for one file that comes and goes
                    look.artifacts.setdefault(version, self._known[version])
        self._known = look.artifacts
        self._stillness.forget_all_but({Path(entry.path) for entry in entries})
        return Found(look.artifacts, aspired, unreadable, _told(look.problems), look.unsettled)

    def _take(self, look: _Look, version: int, path: Path, *, trusted: bool) -> None:
        """`trusted`: directories appear whole here, by rename. Raises OSError."""
        platform, fingerprint, newest = self._fingerprint(path)
        if version in look.artifacts:
            look.problems.append(f"version {path.name}: {look.artifacts[version].path.name} is version {version} too")
        elif not trusted and not self._stillness.holds(path, fingerprint, newest):
            look.unsettled = True
            if version in self._known:
                # It was whole before somebody touched it: it does not go away while they do.
                look.artifacts[version] = self._known[version]
        elif platform is None:
            look.problems.append(f"version {path.name}: want one of {', '.join(MODEL_FILES)}, found neither")
        else:
            look.artifacts[version] = Artifact(ModelId(self._name, version), platform, path, fingerprint)

    def _read_aspired(self) -> tuple[bytes | None, str]:
        """What is in the file, and why it cannot be read."""
        try:
            with open_regular(self._path / ASPIRED_FILE) as file:
                data = file.read(MAX_ASPIRED_BYTES + 1)
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, f"cannot be read: {error.strerror}"
        return (data, "") if len(data) <= MAX_ASPIRED_BYTES else (None, f"want at most {MAX_ASPIRED_BYTES} bytes")

    def _fingerprint(self, directory: Path) -> tuple[Platform | None, str, float]:
        """The platform, a digest of every file's name, size and times, and the newest of those times."""
        digest = hashlib.sha256()
        newest = directory.stat().st_mtime
        count = 0
        for folder, folders, files in os.walk(directory, onerror=_raise):
            folders.sort()
            for file in sorted(files):
                count += 1
                if count > MAX_FILES_PER_VERSION:
                    raise OSError(0, f"more than {MAX_FILES_PER_VERSION} files")
                path = os.path.join(folder, file)
                stat = os.stat(path)
                # ctime too: a copy that preserves times sets mtime back, and ctime cannot be.
                newest = max(newest, stat.st_mtime, stat.st_ctime)
                # As bytes, for a name need not be UTF-8.
                name = os.fsencode(os.path.relpath(path, directory))
                digest.update(b"%s\0%d\0%d\0" % (name, stat.st_size, stat.st_mtime_ns))
        present = [platform for file, platform in MODEL_FILES.items() if (directory / file).is_file()]
        chosen = next((platform for platform in self._prefer if platform in present), None)
        return chosen, digest.hexdigest()[:32], newest


def _told(problems: list[str]) -> str:
    more = len(problems) - MAX_PROBLEMS
    return "; ".join([*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _raise(error: OSError) -> None:
    raise error
