"""Neighbours as one: found, asked, and given to. Imported only where it is on.

Rule: what is shared is what the journal says was installed by a signed manifest that lets it be shared: nothing else, nor half of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from sync.agent.discovery import Discovery, own_hosts
from sync.agent.neighbours import Neighbours
from sync.agent.sharing import Sharing
from sync.domain.digests import Digest
from sync.domain.journal import Journal, Phase
from sync.domain.update import UNKNOWN

log = logging.getLogger(__name__)


class Peering:
    """sharing: None where neighbours are asked only. interfaces: names or addresses; empty for all that are private.

    port: to share at, 0 for any.
    """

    def __init__(
        self, neighbours: Neighbours, sharing: Sharing | None, interfaces: Sequence[str], port: int = 0
    ) -> None:
        self._neighbours, self._sharing, self._interfaces, self._port = neighbours, sharing, interfaces, port
        self._discovery: Discovery | None = None

    @property
    def known(self) -> int:
        """How many neighbours may be asked."""
        return len(self._neighbours)

    @property
    def banned(self) -> int:
        """How many addresses are not asked now, for they gave other bytes."""
        return self._neighbours.banned

    async def start(self) -> None:
        """What fails is logged: without neighbours there is the store."""
        hosts = await asyncio.to_thread(own_hosts, self._interfaces)
        if not hosts:
            log.warning(
                "no neighbours: there is no private address at %s", ", ".join(self._interfaces) or "any interface"
            )
            return
        port = None
        if self._sharing is not None:
            try:
                port = await self._sharing.start(hosts, self._port)
            except OSError as error:
                log.warning("no blobs are shared: %s", error)
        self._discovery = Discovery(self._neighbours, hosts)
        self._discovery.start(port)

    async def close(self) -> None:
        if self._discovery is not None:
            await self._discovery.close()
            self._discovery = None
        if self._sharing is not None:
            await self._sharing.close()


def shared_of(journal: Journal) -> Mapping[Digest, int]:
    """Digests that neighbours may have, with their sizes in bytes."""
    releases = [
        release
        for state in journal.models.values()
        for release in (state.active, state.previous, state.candidate)
        if release is not None and release.share and release.release != UNKNOWN
    ]
    return {file.digest: file.size for release in releases for file in release.files}


def busy_of(journal: Journal) -> str:
    """Why nothing is given now: a version is being tried, and its figures are not to be disturbed."""
    swapping = [name for name, state in journal.models.items() if state.phase is Phase.SWAPPING]
    return f"{swapping[0]} is being swapped" if swapping else ""
