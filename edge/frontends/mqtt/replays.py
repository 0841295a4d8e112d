"""Answers to requests that the broker may deliver again, for as long as somebody may wait for them.

Rule 1: only what the broker marks as delivered again is looked up: a client that uses one correlation for everything gets
no old answers. Rule 2: entries, their bytes and their time are bounded. Inference may be repeated: what is not found is
computed once more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from edge.mqtt.message import Message, Properties


class Key(NamedTuple):
    """`payload` is a hash of it."""

    topic: str
    reply: str
    correlation: bytes | None
    payload: int


def key_of(message: Message, reply: str, correlation: bytes | None) -> Key:
    return Key(message.topic, reply, correlation, hash(message.payload))


class Answer(NamedTuple):
    """What was published, and until when (loop time, seconds) it is worth publishing again."""

    topic: str
    payload: bytes
    qos: int
    properties: Properties
    until: float


class Replays:
    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0
        self._running: dict[Key, list[Message]] = {}

    def begin(self, key: Key) -> None:
        self._running.setdefault(key, [])

    def join(self, key: Key, message: Message) -> bool:
        """Whether the same request is being answered already: its end acks this message, too."""
        waiting = self._running.get(key)
        if waiting is None:
            return False
        waiting.append(message)
        return True

    def end(self, key: Key, answer: Answer | None) -> list[Message]:
        """The messages that joined."""
        if answer is not None and len(answer.payload) <= self._max_bytes:
            self._forget(key)
            self._answers[key] = answer
            self._bytes += len(answer.payload)
            while self._bytes > self._max_bytes or len(self._answers) > self._max_entries:
                self._forget(next(iter(self._answers)))
        return self._running.pop(key, [])

    def find(self, key: Key, now: float) -> Answer | None:
        answer = self._answers.get(key)
        if answer is not None and answer.until <= now:
            self._forget(key)
            return None
        return answer

    def _forget(self, key: Key) -> None:
        old = self._answers.pop(key, None)
        if old is not None:
            self._bytes -= len(old.payload)
