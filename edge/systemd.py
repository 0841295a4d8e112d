"""What a service and systemd say to each other: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

Rule 1: without systemd nothing is said and nothing is inherited, at no cost. Rule 2: a variable that is not as documented is
logged and passed over; none ends a service. Rule 3: what was read is taken out of the environment: it is no child's.
Rule 4: nothing here blocks. What the manager has no room for is kept, and sent in its order with what is said next.
Rule 5: a descriptor that is no listening socket is somebody else's, and is left as it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

FIRST_FD = 3
MAX_SOCKETS = 64
MAX_STATUS_CHARS = 240
MAX_OWED = 32
"""Messages that wait for the manager; more than it is ever told between two of its breaths."""
MAX_ADDRESS_BYTES = 107  # sun_path of unix(7), less one
TICK_S = 2.0
"""How often a status that has changed is told, at most."""
PINGS = 6
"""In the time that the watchdog allows: so much of it, less one part, may a loop be busy without a break."""
LEAST_PAUSE_S = 0.01
"""Between two words, however little time a watchdog allows: a time that nobody can keep costs no core."""

Sockets = Mapping[str, Sequence[socket.socket]]


class Notifier:
    """Tells the manager how the service is. `wanted` is false where nobody listens."""

    def __init__(self, address: str = "") -> None:
        """address: a path, or a name in the abstract namespace behind `@`; empty for nobody."""
        self._address = _address(address)
        self._owed: deque[bytes] = deque()
        self._socket: socket.socket | None = None

    @property
    def wanted(self) -> bool:
        return self._address is not None

    def tell(self, *assignments: str) -> None:
        """One message, such as "READY=1", "STATUS=…". Raises nothing."""
        if self._address is None:
            return
        if len(self._owed) < MAX_OWED:
            self._owed.append("\n".join(assignments).encode(errors="replace"))
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            while self._owed:
                self._socket.sendto(self._owed[0], self._address)
                self._owed.popleft()
        except BlockingIOError:
            log.debug("systemd has no room for %d messages yet", len(self._owed))
        except OSError as error:
            log.warning("systemd cannot be told (%s); nothing more is", error)
            self._address = None

    def ready(self, text: str) -> None:
        """It serves, for the first time or again."""
        self.tell("READY=1", status(text))

    def reloading(self) -> None:
        """Its configuration is read again; `ready` says when that is over."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_s: float, text: str) -> None:
        """It ends, and asks for so many seconds from now on to do it."""
        self.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}", status(text))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class Given:
    """What systemd gave the process. `sockets` listen already, by the name of each; `watchdog_s`: within so many seconds it
    wants to hear WATCHDOG=1 again and again, 0 for never."""

    notifier: Notifier = field(default_factory=Notifier)
    sockets: Sockets = field(default_factory=dict)
    watchdog_s: float = 0.0


def take(environment: MutableMapping[str, str] | None = None, pid: int | None = None) -> Given:
    """Once in a process, before it opens much. Raises nothing."""
    variables = os.environ if environment is None else environment
    pid = os.getpid() if pid is None else pid
    names = (
        *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
        *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
    )
    said = {name: text for name in names if (text := variables.pop(name, None)) is not None}
    return Given(Notifier(said.get("NOTIFY_SOCKET", "")), _inherited(said, pid), _watchdog_s(said, pid))


def status(text: str) -> str:
    """One line of it: what is behind an end of line would be taken for an assignment of its own."""
    shown = " ".join(text.split())
    return f"STATUS={shown if len(shown) <= MAX_STATUS_CHARS else shown[: MAX_STATUS_CHARS - 1] + '…'}"


async def tend(
    given: Given, told: Callable[[], str], hung: Callable[[], str] = lambda: "", *, tick_s: float = TICK_S
) -> None:
    """Until cancelled: the status when it has changed, and the watchdog's word while the loop turns and nothing has hung.

    told: how things are; hung: what the process cannot recover from by itself, empty for nothing. Neither may block; what they
    raise is logged once, and ends nothing.
    """
    if not given.notifier.wanted:
        return
    pause_s = max(LEAST_PAUSE_S, min(tick_s, given.watchdog_s / PINGS)) if given.watchdog_s else tick_s
    last = why = ""
    broken = False
    while True:
        before = why
        try:
            why = hung()
            text = why or told()
        except Exception:
            if not broken:
                log.exception("what systemd is to be told cannot be had")
            broken, why, text = True, "", last
        if why and not before:
            log.critical("%s%s", why, "; systemd's watchdog hears no more of this process" if given.watchdog_s else "")
        words = [status(text)] if text != last else []
        if given.watchdog_s and not why:
            words.append("WATCHDOG=1")
        if words:
            given.notifier.tell(*words)
        last = text
        await asyncio.sleep(pause_s)


def _address(text: str) -> str | None:
    if not text:
        return None
    if text[0] not in "/@" or "\0" in text or len(os.fsencode(text)) > MAX_ADDRESS_BYTES:
        log.warning(
            "NOTIFY_SOCKET: want a path or @ and a name of at most %d bytes, got %.80r", MAX_ADDRESS_BYTES, text
        )
        return None
    return f"\0{text[1:]}" if text.startswith("@") else text


def _watchdog_s(said: Mapping[str, str], pid: int) -> float:
    if "WATCHDOG_USEC" not in said or _number(said, "WATCHDOG_PID", pid) != pid:
        return 0.0
    return (_number(said, "WATCHDOG_USEC", 0) or 0) / 1e6


def _inherited(said: Mapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Those of LISTEN_FDS that listen."""
    if "LISTEN_FDS" not in said or _number(said, "LISTEN_PID", 0) != pid:
        return {}
    count = _number(said, "LISTEN_FDS", 0) or 0
    if count > MAX_SOCKETS:
        log.warning("LISTEN_FDS: want at most %d, got %d; the rest are passed over", MAX_SOCKETS, count)
        count = MAX_SOCKETS
    names = [name or "unknown" for name in said.get("LISTEN_FDNAMES", "").split(":")]
    names += ["unknown"] * (count - len(names))
    found: dict[str, list[socket.socket]] = {}
    for fd, name in zip(range(FIRST_FD, FIRST_FD + count), names, strict=False):
        listening = _listening(fd)
        if listening is None:
            log.warning("descriptor %d, %.80r of LISTEN_FDNAMES: want a listening stream socket; passed over", fd, name)
        else:
            found.setdefault(name, []).append(listening)
    return found


def _listening(fd: int) -> socket.socket | None:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        made = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        streams = made.type == socket.SOCK_STREAM and made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        streams = 0
    if not streams or made.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        made.detach()
        return None
    made.set_inheritable(False)
    made.setblocking(False)
    return made


def _number(said: Mapping[str, str], name: str, default: int) -> int | None:
    """A whole number of at most 18 digits; None for what is none."""
    text = said.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        log.warning("%s: want a whole number, got %.80r; passed over", name, text)
        return None
    return int(text)
