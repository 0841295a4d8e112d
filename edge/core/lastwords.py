"""What a process says as it dies of its own doing.

The interpreter's fault handler writes to a file on a fatal signal: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT. Whoever
kills from outside, a person, the kernel, a power cut, leaves no words. Rule: the handler is the whole process's, so
the app arms it, once.
"""

from __future__ import annotations

import faulthandler
import logging
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024


def take(state_dir: Path) -> str:
    """The last process's words, or empty; this one's are kept from now on. Blocks."""
    path = state_dir / "crash.txt"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        file.seek(0)
        words = file.read(MAX_BYTES).decode(errors="replace").strip()
        file.truncate(0)
    except OSError as error:
        log.warning("%s: cannot be written (%s); a crash will leave no trace", path, error)
        return ""
    faulthandler.enable(file)  # which holds the file open
    if words:
        log.error("the last process crashed: %s", words)
    return words
