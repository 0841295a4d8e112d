"""From the thread in which tuf runs to a store on the event loop, and back.

Rule 1: every answer has a bound in bytes and in seconds. Rule 2: what the store said no with is kept, word for word.
Rule 3: who gives up waiting ends the thread's request too. Conditional requests are the store's own affair.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

from tuf.api import exceptions
from tuf.ngclient import FetcherInterface

from sync.domain.errors import Missing, StoreError, TooSlow, Unreachable
from sync.domain.ports import ReadStore

BASE = "store:/"


class StoreFailure(exceptions.DownloadError):
    """`error`: what the store raised."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error.message)
        self.error = error


class NotThere(exceptions.DownloadHTTPError):
    """As `StoreFailure`, for Missing: tuf takes it for the end of the roots."""

    def __init__(self, error: Missing) -> None:
        super().__init__(error.message, 404)
        self.error = error


class StoreFetcher(FetcherInterface):
    """request_s: seconds for one answer, whole. `broken`: what the store raised against its promise, a bug."""

    def __init__(self, store: ReadStore, *, request_s: float) -> None:
        self._store, self._request_s = store, request_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: concurrent.futures.Future[bytes] | None = None
        self._lock = threading.Lock()
        self._held: dict[str, bytes] = {}
        self.broken: Exception | None = None

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """loop: the one that runs the store. Whoever calls the rest is in another thread."""
        with self._lock:
            self._loop, self.broken = loop, None
            self._held.clear()

    def hold(self, path: str, data: bytes) -> None:
        """What was just read: the next who asks, until the next `begin`, has it from here, once."""
        self._held[path] = data

    def give_up(self) -> None:
        """What is asked now, and until the next `begin`, is answered by Unreachable."""
        with self._lock:
            self._loop = None
            if self._asked is not None:
                self._asked.cancel()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Raises StoreFailure, NotThere."""
        held = self._held.pop(url.removeprefix(BASE), None)
        if held is not None and len(held) <= max_length:
            return held
        with self._lock:
            if self._loop is None:
                raise self._given_up()
            wanted = self._read(url.removeprefix(BASE), max_length)
            asked = self._asked = asyncio.run_coroutine_threadsafe(wanted, self._loop)
        try:
            return asked.result()
        except Missing as error:
            raise NotThere(error) from None
        except StoreError as error:
            raise StoreFailure(error) from None
        except concurrent.futures.CancelledError:
            raise self._given_up() from None
        except Exception as error:
            self.broken = error
            raise
        finally:
            self._asked = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError("documents are fetched by whoever wants them")

    async def _read(self, path: str, max_bytes: int) -> bytes:
        try:
            async with asyncio.timeout(self._request_s):
                return await self._store.get(path, max_bytes=max_bytes)
        except TimeoutError:
            raise TooSlow(f"{self._store.name}/{path}: want it within {self._request_s:g} s") from None

    def _given_up(self) -> StoreFailure:
        return StoreFailure(Unreachable(f"{self._store.name}: given up"))
