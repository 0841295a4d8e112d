"""What is to be subscribed, and what the broker's session knows of it. Pure.

Rule 1: the broker forgets when its session is gone, and then is asked for everything again. Rule 2: what it was asked for
without having answered before the connection ended may be so or not, and is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """A subscription's options. All but `qos` are MQTT 5's. `retain_handling` 2: no retained messages at subscribing."""

    qos: int
    no_local: bool = False
    retain_handling: int = 0
    retain_as_published: bool = False


_UNKNOWN = Wish(-1)
"""Of a subscription that may be there or not."""


class Subscriptions:
    """`wishes` by filter."""

    def __init__(self) -> None:
        self.wishes: dict[str, Wish] = {}
        self._known: dict[str, Wish] = {}
        self._asked: dict[int, list[str]] = {}  # by packet identifier

    @property
    def unanswered(self) -> bool:
        return bool(self._asked)

    def connected(self, *, session_present: bool) -> None:
        if not session_present:
            self._known.clear()

    def lost(self) -> None:
        for topics in self._asked.values():
            self._known.update(dict.fromkeys(topics, _UNKNOWN))
        self._asked.clear()

    def gone(self) -> list[str]:
        """What is to be unsubscribed."""
        return [topic for topic in self._known if topic not in self.wishes]

    def new(self) -> dict[str, Wish]:
        """What is to be subscribed."""
        return {topic: wish for topic, wish in self.wishes.items() if self._known.get(topic) != wish}

    def asked(self, mid: int, topics: list[str]) -> None:
        """The broker has been sent this, in the packet `mid`."""
        self._asked[mid] = topics
        for topic in topics:
            if topic in self.wishes:
                self._known[topic] = self.wishes[topic]
            else:
                self._known.pop(topic, None)

    def answered(self, mid: int, refused: list[str]) -> dict[str, str]:
        """What was refused in the packet `mid`, and why. It is asked for again with the next connection's session."""
        topics = self._asked.pop(mid, [])
        return {topic: why for topic, why in zip(topics, refused, strict=False) if why}
