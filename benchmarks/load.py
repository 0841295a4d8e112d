"""Load on one address, every answer checked while it is applied.

Rule 1: a closed loop sends as soon as it is answered; an open loop sends when a request is due, and counts its latency
from then, so that a stall of the server is seen by all whom it kept waiting.
Rule 2: one request has one right answer for each version; anything else that comes back is a failure.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

ANSWER_WITHIN_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True)
class Ask:
    """`request`: the bytes on the wire. `right`: the bodies that answer it; empty takes any 200."""

    request: bytes
    right: frozenset[bytes] = frozenset()


@dataclass
class Seen:
    """Due times and latencies in seconds, in the order of the answers."""

    due: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.took) / self.seconds

    def quantile_us(self, q: float, since: float = 0.0, until: float = float("inf")) -> float:
        due, took = np.array(self.due), np.array(self.took)
        return float(np.quantile(took[(due >= since) & (due < until)], q)) * 1e6


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ask_once(port: int, request: bytes, within_s: float = ANSWER_WITHIN_S) -> bytes:
    """The body of the answer. Raises RuntimeError for any status but 200, TimeoutError."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        connection.sendall(request)
        answer = b""
        while (body := _body(answer)) is None:
            more = connection.recv(1 << 20)
            if not more:
                raise RuntimeError(f"the connection ended after {answer!r}")
            answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:500].decode("latin-1"))
    return body


def one_by_one(port: int, ask: Ask, seconds: float) -> Seen:
    """A closed loop on one connection, without anything that would add to the latency."""
    seen = Seen()
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = now = time.perf_counter()
        while now - start < seconds:
            connection.sendall(ask.request)
            answer = connection.recv(1 << 20)
            while (body := _body(answer)) is None:
                answer += connection.recv(1 << 20)
            before, now = now, time.perf_counter()
            _note(seen, ask, before, now, answer, body)
    seen.seconds = now - start
    return seen


def closed(port: int, ask: Ask, connections: int, seconds: float) -> Seen:
    """`connections` that each send as soon as they are answered."""
    return _Loop(port, ask, connections).run(lambda now, start: now - start < seconds, None)


def open_loop(port: int, ask: Ask, connections: int, per_s: float, going: Callable[[], bool]) -> Seen:
    """`per_s` requests a second, evenly, as long as `going` says; each waits for a free one of the connections."""
    return _Loop(port, ask, connections).run(lambda now, start: going(), 1 / per_s)


class _Loop:
    def __init__(self, port: int, ask: Ask, connections: int) -> None:
        self._ask = ask
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for one in self._sockets:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._free = deque(self._sockets)
        self._sent: dict[socket.socket, tuple[float, bytearray, memoryview]] = {}
        self._seen = Seen()

    def run(self, more: Callable[[float, float], bool], interval: float | None) -> Seen:
        """Until `more(now, start)` is false and all is answered. `interval`: seconds between requests, if open."""
        start = now = due = time.perf_counter()
        stopped = 0.0
        while self._sent or not stopped:
            if not stopped and not more(now, start):
                stopped = now
            while self._free and not stopped and (interval is None or due <= now):
                self._send(now if interval is None else due)
                due += interval or 0.0
            timeout = POLL_S if interval is None or stopped or not self._free else max(0.0, due - time.perf_counter())
            self._turn(timeout)
            now = time.perf_counter()
            if stopped and now - stopped > ANSWER_WITHIN_S:
                self._seen.failed += len(self._sent)
                break
        self._seen.seconds = now - start
        for one in self._sockets:
            one.close()
        return self._seen

    def _turn(self, timeout: float) -> None:
        writing = [one for one, (_, _, rest) in self._sent.items() if rest]
        readable, writable, _ = select.select(list(self._sent), writing, [], timeout)
        for one in writable:
            due, answer, rest = self._sent[one]
            self._sent[one] = due, answer, rest[_send(one, rest) :]
        for one in readable:
            self._receive(one)

    def _send(self, due: float) -> None:
        one = self._free.popleft()
        whole = memoryview(self._ask.request)
        self._sent[one] = due, bytearray(), whole[_send(one, whole) :]

    def _receive(self, one: socket.socket) -> None:
        due, answer, _ = self._sent[one]
        try:
            more = one.recv(1 << 20)
        except OSError:
            more = b""
        answer += more
        body = _body(bytes(answer))
        if body is None and more:
            return
        del self._sent[one]
        if body is None:
            self._seen.failed += 1  # and the connection is lost with it
            return
        self._free.append(one)
        _note(self._seen, self._ask, due, time.perf_counter(), bytes(answer[:12]), body)


def _send(one: socket.socket, what: memoryview) -> int:
    try:
        return one.send(what)
    except BlockingIOError:
        return 0


def _note(seen: Seen, ask: Ask, due: float, now: float, head: bytes, body: bytes) -> None:
    seen.due.append(due)
    seen.took.append(now - due)
    if head[9:12] != b"200" or (ask.right and body not in ask.right):
        seen.failed += 1


def _body(answer: bytes) -> bytes | None:
    """The body if it is all there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = answer.lower().find(b"content-length:", 0, end)
    length = int(answer[at + 15 : answer.index(b"\r", at)])
    body = answer[end + 4 :]
    return body if len(body) >= length else None
