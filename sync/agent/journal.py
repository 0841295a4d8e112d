"""The journal on the disk: `state.json`, replaced whole.

Rule 1: a write has happened when it returns: the file and its name are synced. Rule 2: whoever holds the journal holds the
agent's lock. Rule 3: a journal that is damaged is put aside, and what the server was told last is taken for what is active.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.domain.layout import ASPIRED_FILE, is_model_name, parse_aspired
from sync.agent.blobs import digest_of_file
from sync.domain.durable import replace_durably
from sync.domain.errors import DiskError, DocumentError
from sync.domain.journal import (
    MAX_JOURNAL_BYTES,
    FileRef,
    Held,
    Installed,
    Journal,
    ModelState,
    encode_journal,
    parse_journal,
)
from sync.domain.ports import Files
from sync.domain.update import UNKNOWN

log = logging.getLogger(__name__)


class JournalFile:
    """`value` is what is on the disk. `problem`: why it was begun anew, "" where it was not. now: seconds since the epoch.

    Methods block, and raise DiskError where they say so.
    """

    def __init__(self, files: Files, path: Path, models_dir: Path, *, now: Callable[[], float] = time.time) -> None:
        self._files, self._path, self._models_dir, self._now = files, path, models_dir, now
        self.value = Journal()
        self._writing = threading.Lock()
        self.problem = ""

    def load(self) -> Journal:
        """What the last process wrote. Raises DiskError where the disk does not let itself be read."""
        try:
            self.value = self._read() or self.value
        except DocumentError as error:
            self._start_anew(error)
        except OSError as error:
            raise DiskError(f"{self._path}: cannot be read: {error.strerror}") from None
        return self.value

    def peek(self) -> Journal:
        """What is on the disk, for somebody else than the agent: nothing is put aside. Raises DiskError, DocumentError."""
        try:
            return self._read() or Journal()
        except OSError as error:
            raise DiskError(f"{self._path}: cannot be read: {error.strerror}") from None

    def _read(self) -> Journal | None:
        """None where there is none. Raises OSError, DocumentError."""
        size = self._files.size(self._path)
        if size is None:
            return None
        if size > MAX_JOURNAL_BYTES:
            raise DocumentError(f"journal: want at most {MAX_JOURNAL_BYTES} bytes, got {size}")
        return parse_journal(self._files.read(self._path))

    def write(self, models: Mapping[str, ModelState], *, reports: int = 0) -> Journal:
        """Durably; `reports`: how many report numbers are taken with it. Raises DiskError, and nothing has changed."""
        with self._writing:
            return self._replace(models, self.value.holds, self.value.report_seq + reports, clean=False)

    def hold(self, model: str, held: Held | None) -> Journal:
        """Durably; None for no hold any more. A report number is taken with it. Raises DiskError, and nothing has changed."""
        with self._writing:
            holds = {name: each for name, each in self.value.holds.items() if name != model}
            if held is not None:
                holds[model] = held
            return self._replace(self.value.models, holds, self.value.report_seq + 1, clean=False)

    def end(self) -> None:
        """This process has ended as it was asked to, says the journal. Raises DiskError."""
        with self._writing:  # a write whose caller was cancelled may still be under way
            self._replace(self.value.models, self.value.holds, self.value.report_seq, clean=True)

    def _replace(
        self, models: Mapping[str, ModelState], holds: Mapping[str, Held], report_seq: int, *, clean: bool
    ) -> Journal:
        old = self.value
        journal = Journal(old.format, old.generation + 1, report_seq, clean, models, holds)
        replace_durably(self._files, self._path, encode_journal(journal))
        self.value = journal
        return journal

    def _start_anew(self, error: DocumentError) -> None:
        aside = self._path.with_name(self._path.name + ".bad")
        try:
            models = self._found()  # first: a journal that is gone would not be asked about again
            self._files.rename(self._path, aside)
            self._files.sync_directory(self._path.parent)
            # Reports go on beyond all numbers that were given before: there were fewer than seconds.
            self.value = Journal(report_seq=max(0, int(self._now())), models=models)
        except OSError as problem:
            raise DiskError(f"{self._path}: {error.message}; and cannot be put aside: {problem.strerror}") from None
        self.problem = f"{error.message}; put aside as {aside.name}"
        log.error("%s: %s", self._path, self.problem)

    def _found(self) -> dict[str, ModelState]:
        found = {}
        for name in self._files.names(self._models_dir):
            if is_model_name(name) and (installed := self._state_of(self._models_dir / name)) is not None:
                found[name] = installed
        return found

    def _state_of(self, model: Path) -> ModelState | None:
        """With the version that the server was told to serve: the fallback, which had proved itself, before the newest."""
        try:
            told = parse_aspired(self._files.read(model / ASPIRED_FILE))
            for version in (told.fallback, *reversed(told.versions)):
                files = tuple(self._file_refs(model / str(version), "")) if version is not None else ()
                if version is not None and files:
                    return ModelState(active=Installed(version, UNKNOWN, "", files), generation=told.generation + 1)
        except (OSError, ValueError) as error:
            log.error("%s: what it served cannot be found out: %s", model, error)
        return None

    def _file_refs(self, version: Path, below: str) -> list[FileRef]:
        refs = []
        for name in self._files.names(version / below):
            path = f"{below}/{name}" if below else name
            if (size := self._files.size(version / path)) is None:
                refs += self._file_refs(version, path)
            else:
                refs.append(FileRef(path, digest_of_file(self._files, version / path), size))
        return refs
