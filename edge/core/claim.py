"""One server for each state directory: two would take each other's deaths for their own."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def claim(state_dir: Path) -> bool:
    """Whether the directory is this process's from now on, until it ends in whatever way. Blocks, on the disk only."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("%s: cannot be written (%s); nothing will be remembered", state_dir, error)
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        log.warning("%s: another server uses it; this one will not remember deaths", state_dir)
        return False
    return True  # the handle stays open, and with it the lock
