"""The last good `aspired.json` of each model, kept in the state directory: it holds after a restart, too.

Rule 1: what is kept is of one directory; another one of the same name has nothing to do with it. Rule 2: without a
state directory, or with one that cannot be written to, the last one holds as long as the process, and nothing fails.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edge.core.durable import replace_durably

log = logging.getLogger(__name__)

FORMAT = "edge-last-aspired/1"
MAX_FILE_BYTES = 8 << 20
"""Of a kept file, in which every character of an `aspired.json` may have become an escape of six."""


class LastAspired:
    """Implements edge.sources.directory.Memory. `<state_dir>/aspired/<name>.json`; methods block on the disk."""

    def __init__(self, state_dir: Path | None) -> None:
        self._folder = state_dir / "aspired" if state_dir else None

    def place(self, name: str) -> Path | None:
        """Where a model's is kept; a person deletes it, and starts the server again, to be rid of it."""
        return self._folder / f"{name}.json" if self._folder else None

    def recall(self, name: str, directory: Path) -> bytes | None:
        """What was kept of this model in this directory; None where nothing was, or it cannot be read."""
        path = self.place(name)
        record = _read(path) if path else None
        if record is None or record["directory"] != _named(directory):
            return None
        return json.dumps(record["aspired"]).encode()

    def keep(self, name: str, directory: Path, aspired: bytes) -> None:
        """Durable when it returns. `aspired`: an `aspired.json` that was found good."""
        path = self.place(name)
        if path is None:
            return
        record = {"format": FORMAT, "directory": _named(directory), "aspired": json.loads(aspired)}
        if record == _read(path):
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(path, json.dumps(record).encode())
        except OSError as error:
            log.warning("%s: cannot be written: %s; after a restart nothing but the file itself counts", path, error)


def _read(path: Path) -> dict[str, Any] | None:
    """A record of this format, whatever is aspired in it."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(MAX_FILE_BYTES))
        if record["format"] != FORMAT:
            raise ValueError(f"format: want {FORMAT!r}, got {record['format']!r}")
        return {key: record[key] for key in ("format", "directory", "aspired")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s: unreadable (%s); what was aspired before is forgotten", path, error)
        return None


def _named(directory: Path) -> str:
    return str(directory.absolute())
