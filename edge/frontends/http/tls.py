"""The server's certificate, and the next one when its files change.

Rule 1: a pair that cannot be loaded changes nothing; the one in use holds. Rule 2: a context never changes its pair, as
a handshake in between would meet a certificate without its key: each pair has its own, and a handshake takes the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from pathlib import Path

from edge.files import open_regular

log = logging.getLogger(__name__)

POLL_S = 5.0


class Certificates:
    """`context` is for the listener, and stays the same; handshakes begun after a change get the new certificate."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Blocks. Raises OSError, ssl.SSLError."""
        self._cert, self._key = cert, key
        self.context = self._newest = _context(cert, key)
        self.context.sni_callback = self._take_newest  # called for each handshake, with a name or without
        self._seen = self._times()

    async def follow(self) -> None:
        """Until cancelled: load what was written within POLL_S."""
        while True:
            await asyncio.sleep(POLL_S)
            now = await asyncio.to_thread(self._times)
            if now != self._seen:
                self._seen = now
                await self.load()

    async def load(self) -> None:
        try:
            self._newest = await asyncio.to_thread(_context, self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            log.error("%s: not loaded, the old certificate holds: %s", self._cert, error)

    def _take_newest(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _times(self) -> list[float]:
        times = []
        for file in (self._cert, self._key or self._cert):
            with contextlib.suppress(OSError):
                times.append(file.stat().st_mtime)
        return times


def no_passphrase() -> str:
    """In place of OpenSSL's question at the terminal, which would hold up all who wait for the files. Raises OSError."""
    raise OSError(errno.EACCES, "want a private key without a passphrase")


def _context(cert: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file in (cert, *([key] if key else [])):
        open_regular(file).close()  # the library would wait for a pipe's other end, and nobody would look again
    context.load_cert_chain(cert, key, no_passphrase)
    return context
