"""The configuration that holds, and what takes its place: files that are read again, and what clients send.

Rule 1: one after the other, in the order in which they came. Rule 2: what can be wrong is found before anything changes, and
changes nothing then. Rule 3: what has begun is finished, whether the client that asked for it is still there or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge.backends.catalog import preferred
from edge.config import Config, ConfigError
from edge.core.control import Controls
from edge.core.feeds import Feeds
from edge.core.keepsakes import Keepsakes
from edge.core.manager import Manager
from edge.core.model import Model
from edge.core.registry import Registry
from edge.domain.errors import DeadlineExceeded, EdgeError, InvalidInput, ModelsNotAvailable, Overloaded
from edge.domain.ports import Source
from edge.doors import Doors
from edge.frontends.addresses import Addresses
from edge.frontends.supervised import Supervised
from edge.sources.configured import sources_of, unchanged, watched
from edge.sources.watch import Changes

log = logging.getLogger(__name__)

MAX_CALLS = 64
"""Of clients that have sent a configuration, and wait for their turn or for their models."""
MAX_SHOWN = 400
"""Characters of the names of models in a line of the log."""
Reread = Callable[[], Config]


class Conduct(Protocol):
    """How a server behaves that stands in for another one: its ports open when what should be served at first has been
    tried (but for at most `server.start_hold_s`), and clients may send the models that take the place of all there are.

    available: the versions that answer, by model. What is returned takes the place of `old`.
    """

    def opened(self, at: Addresses) -> None:
        """The ports are open."""
        ...

    def reread(self, old: Config, available: Mapping[str, Collection[int]]) -> Config:
        """What its files say now. Blocks. Raises ConfigError."""
        ...

    def reconfigured(self, sent: bytes, old: Config, available: Mapping[str, Collection[int]]) -> Config:
        """What a client has sent, which is its caller's to bound. Blocks. Raises EdgeError."""
        ...

    async def follow(self, reload: Callable[[], None]) -> None:
        """Until cancelled: ask for a reload whenever there is a reason."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a configuration is put into. `route`: does so with what it says of requests that name no version. `standing`: how
    the server is, in a few words."""

    manager: Manager
    registry: Registry
    feeds: Feeds
    changes: Changes
    keepsakes: Keepsakes
    control: Controls
    supervised: Supervised
    route: Callable[[Config], None]
    standing: Callable[[], str]


@dataclass(slots=True, eq=False)
class Sent:
    """A client's wish. `begun`: it is being looked at; `done` has the names of the models that are new by it, once it holds."""

    config: bytes
    done: asyncio.Future[Collection[str]]
    begun: bool = False


class Reloading:
    """`config` holds. Without `conduct` nothing that clients send is taken; without it and `reread`, no file is read."""

    def __init__(self, config: Config, parts: Parts, *, reread: Reread | None, conduct: Conduct | None) -> None:
        self.config = config
        self._parts, self._reread, self._conduct = parts, reread, conduct
        self._queue: deque[Sent | None] = deque()
        self._asked = asyncio.Event()
        self._calls = 0

    @property
    def queued(self) -> int:
        """What is kept until its turn comes."""
        return len(self._queue)

    def want(self) -> None:
        """Files are read again soon; once, however often that was wanted before."""
        if None not in self._queue:
            self._queue.append(None)
            self._asked.set()

    async def reconfigure(self, config: bytes, deadline: float) -> None:
        """Return when the models are served that are new by what a client has sent. deadline: a reading of the loop's clock.

        Raises ModelsNotAvailable when one of them failed: the configuration holds. DeadlineExceeded when that is not known by
        then, or within `server.start_hold_s`: its text says what becomes of it. Any other EdgeError: nothing changed.
        """
        if self._calls >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} calls wait already for their configurations")
        self._calls += 1
        try:
            await self._wait_for(config, deadline)
        finally:
            self._calls -= 1

    async def _wait_for(self, config: bytes, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        sent = Sent(config, loop.create_future())
        self._queue.append(sent)
        self._asked.set()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self.config.server.start_hold_s)):
                fresh = await sent.done
                await self._parts.manager.tried(fresh)
        except TimeoutError:
            raise DeadlineExceeded(f"want an answer within the call's time, and {_left(sent)}") from None
        finally:
            if not sent.begun and sent in self._queue:  # it would be kept for as long as others are being taken
                self._queue.remove(sent)
        models = {name: self._parts.manager.models.get(name) for name in sorted(fresh)}
        if missing := {name: model.failed if model else None for name, model in models.items() if not _serves(model)}:
            raise ModelsNotAvailable(missing)

    async def run(self, doors: Doors) -> None:
        """Until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._queue:
                sent = self._queue.popleft()
                if sent is None:
                    await self._read_again(doors)
                elif not sent.done.done():
                    sent.begun = True
                    await self._take_in(sent)

    async def _read_again(self, doors: Doors) -> None:
        supervised = self._parts.supervised
        supervised.reloading()
        problem = ""
        try:
            await self._reload(doors)
        except (OSError, ValueError, ConfigError) as error:
            log.error("the configuration was not reloaded, the old one holds: %s", error)
            problem = f"the configuration was not reloaded: {error}"
        except Exception:  # a bug here must not take down what serves
            log.exception("the configuration was not reloaded")
            problem = "the configuration was not reloaded"
        supervised.ready(problem or self._parts.standing())

    async def _reload(self, doors: Doors) -> None:
        """Models, tokens and certificates; an address or a bound needs a restart. Raises what a bad file raises."""
        old, new = self.config, await self._read()
        if new is not None:
            paths, sources = await self._prepare(new)
            await doors.reload_tokens(new.http.token_file)
            await self._take(new, paths, sources)
            if msgspec.structs.replace(new, models=old.models, repository=old.repository) != old:
                log.warning("only models, tokens and certificates are reloaded; other changes need a restart")
        if doors.certificates is not None:
            await doors.certificates.load()
        await self._parts.control.reload()
        log.info("reloaded")

    async def _read(self) -> Config | None:
        """None where there is nothing to read. Raises OSError, ValueError, ConfigError."""
        if self._conduct is not None:
            return await asyncio.to_thread(self._conduct.reread, self.config, self._available())
        return await asyncio.to_thread(self._reread) if self._reread is not None else None

    async def _take_in(self, sent: Sent) -> None:
        """Its client may be gone before the end, which changes nothing of it."""
        old = self.config
        outcome: Exception
        try:
            assert self._conduct is not None
            new = await asyncio.to_thread(self._conduct.reconfigured, sent.config, old, self._available())
            await self._take(new, *await self._prepare(new))
        except EdgeError as error:
            outcome = error
        except OSError as error:
            outcome = InvalidInput(str(error))
        except Exception as error:  # a bug here must not take down what serves
            outcome = error
        else:
            names = ", ".join(new.models) or "none"
            log.info("took a client's configuration of %d models: %.*s", len(new.models), MAX_SHOWN, names)
            if not sent.done.done():
                sent.done.set_result(new.models.keys() - old.models.keys())
            return
        bug = None if isinstance(outcome, EdgeError) else outcome
        log.error("a client's configuration was not taken, the old one holds: %s", outcome, exc_info=bug)
        if not sent.done.done():
            sent.done.set_exception(outcome)

    async def _prepare(self, new: Config) -> tuple[Sequence[Path], Mapping[str, Source]]:
        """Its directories and its sources. Changes nothing. Raises OSError."""
        parts = self._parts
        paths = await asyncio.to_thread(watched, new)
        return paths, await asyncio.to_thread(sources_of, new, parts.changes, parts.keepsakes, preferred)

    async def _take(self, new: Config, paths: Sequence[Path], sources: Mapping[str, Source]) -> None:
        old = self.config
        self.config = msgspec.structs.replace(old, models=new.models, repository=new.repository)
        self._parts.route(new)
        self._parts.changes.follow(paths)
        await self._parts.feeds.replace(sources, unchanged(old, new))

    def _available(self) -> dict[str, Collection[int]]:
        return {name: set(each.versions) for name, each in self._parts.registry.models.items()}


def _left(sent: Sent) -> str:
    """What has become of it."""
    if not sent.done.cancelled():
        return "the configuration holds, but its new models are still being tried"
    return (
        "the configuration is still being taken" if sent.begun else "the configuration was not taken: others came first"
    )


def _serves(model: Model | None) -> bool:
    return model is not None and not model.removed and model.serving.newest is not None
