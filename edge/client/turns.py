"""Whose turn it is when many wait, most of whom may be nobody.

Rule 1: whoever was never looked at comes before whoever was, and no order of arrival helps: of the new ones any may be next.
Rule 2: of more than `most`, the newest take the places of such as still wait; who floods pushes out themselves as well.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque


class Turns:
    """Names, each of which has at most two turns. `most`: names that are ever given a turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()
        self._new: list[str] = []
        self._again: deque[str] = deque()
        self._waiting = asyncio.Semaphore(0)

    def hear(self, name: str) -> None:
        """A name that is known already changes nothing."""
        if name in self._known:
            return
        if len(self._known) < self._most:
            self._known.add(name)
            self._new.append(name)
            self._waiting.release()
        elif self._new:
            place = random.randrange(len(self._new))
            self._known.discard(self._new[place])
            self._known.add(name)
            self._new[place] = name

    def again(self, name: str) -> None:
        """It has had its first turn, and is to have a longer one, when nobody new waits."""
        self._again.append(name)
        self._waiting.release()

    async def next(self) -> tuple[str, bool]:
        """Whose turn it is, and whether it is their first. Waits until somebody is there."""
        await self._waiting.acquire()
        if not self._new:
            return self._again.popleft(), False
        place = random.randrange(len(self._new))
        self._new[place], self._new[-1] = self._new[-1], self._new[place]
        return self._new.pop(), True
