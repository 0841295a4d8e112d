"""Acks in the order in which messages came (MQTT 5, section 4.6), whatever the order in which they were done with.

Rule: an ack belongs to the connection that its message came by; on any other, its packet identifier is another message's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge.mqtt.outbox import Ack


@dataclass(slots=True)
class Pending:
    """A message that came and waits for its ack, on the connection number `epoch`."""

    epoch: int
    ack: Ack
    done: bool = False


class Acks:
    """`epoch` is the number of the connection that there is, or was last."""

    def __init__(self) -> None:
        self.epoch = 0
        self._waiting: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def connected(self) -> None:
        """A new connection: what came by an older one is not acked any more. The broker sends it again."""
        self.epoch += 1
        self._waiting.clear()

    def came(self, mid: int, qos: int) -> Pending:
        pending = Pending(self.epoch, Ack(mid, qos))
        self._waiting.append(pending)
        return pending

    def done(self, pending: Pending) -> list[Ack]:
        """What may be acked now: the messages from the oldest on that are done with."""
        if pending.epoch != self.epoch or pending.done:
            return []
        pending.done = True
        ready = []
        while self._waiting and self._waiting[0].done:
            ready.append(self._waiting.popleft().ack)
        return ready
