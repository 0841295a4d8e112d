"""A directory that one process at a time works in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync.domain.errors import DiskError, OperatorError


@contextmanager
def claimed(directory: Path, who: str, *, mode: int = 0o777, do: str = "") -> Iterator[None]:
    """Made where it is not there, with `mode` less the umask, and locked for the block. Blocks.

    who: works there, e.g. "collector"; do: what a person may do where another one is at work. Raises OperatorError then, DiskError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=mode)
        lock = (directory / "lock").open("a")
    except OSError as error:
        raise DiskError(f"{directory}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OperatorError(f"{directory}: another {who} is at work there" + (f"; {do}" if do else "")) from None
        yield
