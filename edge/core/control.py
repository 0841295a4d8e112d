"""Loading and unloading on request. Implements edge.domain.ports.Control."""

from __future__ import annotations

from collections.abc import Callable

from edge.core.manager import Manager


class Controls:
    """`rescan` makes every source look again."""

    def __init__(self, manager: Manager, rescan: Callable[[], None]) -> None:
        self._manager, self._rescan = manager, rescan

    async def load(self, name: str) -> None:
        self._rescan()
        await self._manager.load(name)

    async def unload(self, name: str) -> None:
        await self._manager.unload(name)

    async def reload(self) -> None:
        self._rescan()
        await self._manager.retry()
