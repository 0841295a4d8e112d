"""What waits to be sent, in order.

Rule 1: it is bounded. When it is full, the oldest that may be dropped goes first; where there is none, and the new one is of
QoS 1, the oldest of QoS 0 that is not retained, as that promises nothing; and else the new one itself.
Rule 2: of retained messages for one topic only the newest waits: nobody could ever see the others. Rule 3: an ack goes out
behind what was published before it, so that nothing is acked whose answer is not on its way; acks are not counted, as they
cannot be thrown away: while many wait, nothing is read (`edge.mqtt.sender`). They end with their connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.mqtt.message import NO_PROPERTIES, Properties


def _nobody(why: str, for_ever: bool) -> None:
    """Is told how a publication ended."""


@dataclass(slots=True, eq=False)
class Outgoing:
    """`tries`: how many connections it was sent on already. `ended` is told "" once the broker has it, or why it does not take it,
    and whether it never will; it may not raise."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES
    droppable: bool = False
    tries: int = 0
    ended: Callable[[str, bool], None] = _nobody


@dataclass(frozen=True, slots=True)
class Ack:
    """Of the message with the packet identifier `mid`."""

    mid: int
    qos: int


class Outbox:
    """`dropped` counts what was thrown away for want of room."""

    def __init__(self, max_queued: int, max_queued_bytes: int) -> None:
        self._max_queued, self._max_queued_bytes = max_queued, max_queued_bytes
        self._waiting: deque[Outgoing | Ack] = deque()
        self._messages = self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def level(self) -> float:
        """How full it is, from 0 to 1; more where acks wait, too."""
        return max(len(self._waiting) / self._max_queued, self._bytes / self._max_queued_bytes)

    @property
    def head(self) -> Outgoing | Ack:
        return self._waiting[0]

    def put(self, item: Outgoing) -> bool:
        """Whether it will be sent; False where there was no room for it."""
        if item.retain:
            self._supersede(item.topic)
        while self._full(len(item.payload)):
            self.dropped += 1
            if item.droppable or not self._make_room(item.qos):
                return False
        self._waiting.append(item)
        self._count(item, 1)
        return True

    def put_acks(self, acks: Iterable[Ack]) -> None:
        self._waiting.extend(acks)

    def pop(self) -> Outgoing | Ack:
        item = self._waiting.popleft()
        if isinstance(item, Outgoing):
            self._count(item, -1)
        return item

    def put_back(self, unacknowledged: Iterable[Outgoing]) -> None:
        """After a connection's end: what it may not have delivered goes first again, in its old order; acks go, and so
        does what QoS 0 does not promise."""
        kept = [item for item in self._waiting if isinstance(item, Outgoing) and (item.qos or item.retain)]
        newer = {item.topic for item in kept if item.retain}
        back = [item for item in unacknowledged if not (item.retain and item.topic in newer)]
        self._waiting = deque([*back, *kept])
        self._messages = len(self._waiting)
        self._bytes = sum(len(item.payload) for item in (*back, *kept))
        while self._messages > self._max_queued and self._make_room():
            self.dropped += 1

    def _full(self, size: int) -> bool:
        return bool(self._messages) and (
            self._messages >= self._max_queued or self._bytes + size > self._max_queued_bytes
        )

    def _count(self, item: Outgoing, sign: int) -> None:
        self._messages += sign
        self._bytes += sign * len(item.payload)

    def _remove(self, item: Outgoing) -> None:
        self._waiting.remove(item)
        self._count(item, -1)

    def _supersede(self, topic: str) -> None:
        if not self._messages:
            return
        for item in [item for item in self._waiting if isinstance(item, Outgoing)]:
            if item.retain and item.topic == topic:
                self._remove(item)

    def _make_room(self, qos: int = 0) -> bool:
        """For one of that QoS."""
        messages = [item for item in self._waiting if isinstance(item, Outgoing)]
        chosen = next((item for item in messages if item.droppable), None)
        if chosen is None and qos:
            chosen = next((item for item in messages if not item.qos and not item.retain), None)
        if chosen is None:
            return False
        self._remove(chosen)
        return True
