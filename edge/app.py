"""Puts the server together: the only module, with `reloading` and `doors`, that names concrete classes.

Order of start: state, core, front ends (they say "not ready" at once), sources. Order of stop: accept nothing more,
finish what runs within `drain_s`, note that the end was clean. What a thread still hangs in is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

from edge.backends.catalog import backend_for, preferred
from edge.config import Config
from edge.core import lastwords
from edge.core.catalog import Catalog
from edge.core.claim import claim
from edge.core.control import Controls
from edge.core.deaths import Deaths
from edge.core.feeds import Feeds
from edge.core.keepsakes import Keepsakes
from edge.core.loader import Loader, LoaderLimits
from edge.core.manager import Manager, ManagerLimits
from edge.core.memory import share_arenas
from edge.core.registry import Registry
from edge.core.threads import in_thread
from edge.core.trial_job import TrialLimits
from edge.core.trial_runner import run_trial
from edge.domain.models import Artifact, ModelOptions
from edge.doors import Behind, Doors
from edge.frontends.addresses import Addresses
from edge.frontends.announce.opening import announcer
from edge.frontends.supervised import Supervised, standing
from edge.reloading import Conduct, Parts, Reloading, Reread
from edge.sources.configured import sources_of, watched
from edge.sources.watch import Changes
from edge.telemetry.build import Boot, version
from edge.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 2.0
STOP_WITHIN_S = 10.0
"""Asked of systemd on top of `drain_s`: for what has to be written, on a slow disk."""
CPUINFO = Path("/proc/cpuinfo")
SWITCH_S = 0.0005
"""How long a thread that computes in Python may keep the loop waiting: ten times less than is usual. To load a model
has several milliseconds of it."""


Announce = Callable[[Addresses], None]


def serve(
    config: Config,
    *,
    announce: Announce | None = None,
    reread: Reread | None = None,
    conduct: Conduct | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code. `reread` makes the configuration that SIGHUP asks for."""
    return run(_to_the_end(Server(config, announce, reread, conduct)))


async def _to_the_end(server: Server) -> int:
    """Neither a run nor a look at a disk that hangs in a thread may keep the process: what is to be kept has been written."""
    try:
        code = await server.serve()
    except (OSError, ValueError, ssl.SSLError) as error:
        log.error("cannot start: %s", error)
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def run(main: Coroutine[None, None, int]) -> int:
    """On uvloop where there is a wheel of it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return int(uvloop.run(main))


class Server:
    """One server; `serve` runs it once."""

    def __init__(
        self,
        config: Config,
        announce: Announce | None = None,
        reread: Reread | None = None,
        conduct: Conduct | None = None,
    ) -> None:
        self._config, self._announce, self._reread, self._conduct = config, announce, reread, conduct
        self.stop = asyncio.Event()
        self._code = 0

    async def serve(self) -> int:
        """The exit code: 0 after a clean end. Raises OSError, ValueError, ssl.SSLError where it cannot start."""
        config = self._config
        sys.setswitchinterval(SWITCH_S)
        share_arenas()
        self._loop = asyncio.get_running_loop()
        self._supervised = Supervised()
        await asyncio.to_thread(doubt_processor, CPUINFO)
        self._deaths = await asyncio.to_thread(_deaths, config.server.state_dir)
        await self._make_core()
        await self._open_doors(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reloading.want)
        self._supervised.ready("starting")
        async with asyncio.TaskGroup() as group:
            tasks = self._begin(group)
            # What is here now stays: no collection looks at it again. None before: it would find nothing.
            gc.freeze()
            gc.enable()
            await self.stop.wait()
            await self._wind_down()
            for task in tasks:
                task.cancel()
        await self._manager.close()
        with contextlib.suppress(TimeoutError):
            await in_thread("deaths", CLOSE_WITHIN_S, self._deaths.close)
        log.info("stopped")
        return self._code

    def _begin(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """What goes on until the end."""
        tasks = [
            group.create_task(self._manager.run(), name="manager"),
            group.create_task(self._changes.run(), name="changes"),
            group.create_task(self._feeds.start(self._sources), name="feeds"),
            group.create_task(self._reloading.run(self._doors), name="reload"),
            group.create_task(self._let_in(self._config.server.start_hold_s), name="let in"),
            group.create_task(self._supervised.tend(self._standing, self._hung), name="supervised"),
        ]
        if self._doors.certificates is not None:
            tasks.append(group.create_task(self._doors.certificates.follow(), name="certificates"))
        if self._doors.mqtt is not None:
            tasks.append(group.create_task(self._doors.mqtt.run(), name="mqtt"))
        if self._conduct is not None:
            tasks.append(group.create_task(self._conduct.follow(self._reloading.want), name="conduct"))
        return tasks

    async def _wind_down(self) -> None:
        """Nobody new comes in, and what runs is finished."""
        drain_s = self._config.server.drain_s
        if self._announcer is not None:
            await self._announcer.close()  # nobody new is sent here
        if self._registry.shadows is not None:
            self._registry.shadows.close()
            self._registry.shadows = None
        log.info("stopping: finishing what runs, for at most %g s (drain_s)", drain_s)
        self._supervised.stopping(drain_s + STOP_WITHIN_S)
        await self._doors.close(drain_s)
        await self._feeds.stop()

    async def _make_core(self) -> None:
        config, server = self._config, self._config.server
        self._metrics = Metrics(tfserving=config.http.tfserving_metrics)
        self._registry = Registry()
        trial_limits = TrialLimits(timeout_s=server.trial_timeout_s, max_memory_bytes=server.trial_max_memory_bytes)

        async def trial(artifact: Artifact, options: ModelOptions) -> str:
            report = await run_trial(artifact, options, trial_limits)
            return "" if report.ok else report.reason

        self._loader = loader = Loader(
            backend_for=backend_for,
            trial=trial,
            deaths=self._deaths,
            limits=LoaderLimits(
                load_timeout_s=server.trial_timeout_s,
                inline_run_s=server.inline_run_s,
                alone_run_s=server.alone_run_s,
            ),
        )
        self._manager = Manager(
            registry=self._registry,
            loader=loader,
            meters=lambda model: self._metrics.version(model.name, model.version),
            limits=ManagerLimits(max_load_retries=server.max_load_retries, load_retry_s=server.load_retry_s),
            swapped=self._metrics.swapped,
        )
        self._route(config)
        self._catalog = Catalog(self._manager, self._registry)
        self._metrics.watch(self._catalog.models)
        self._changes = Changes(await asyncio.to_thread(watched, config), poll_s=server.poll_s)
        self._keepsakes = Keepsakes(server.state_dir / "keepsakes")
        self._sources = await asyncio.to_thread(sources_of, config, self._changes, self._keepsakes, preferred)
        self._feeds = Feeds(self._manager)
        self._control = Controls(self._manager, self._changes.notify)
        self._reloading = self._make_reloading(config)

    def _make_reloading(self, config: Config) -> Reloading:
        parts = Parts(
            manager=self._manager,
            registry=self._registry,
            feeds=self._feeds,
            changes=self._changes,
            keepsakes=self._keepsakes,
            control=self._control,
            supervised=self._supervised,
            route=self._route,
            standing=self._standing,
        )
        return Reloading(config, parts, reread=self._reread, conduct=self._conduct)

    def _route(self, config: Config) -> None:
        """Requests that name no version, by what the configuration says of that."""
        if self._registry.shadows is None and any(model.shadow for model in config.models.values()):
            from edge.core.shadow import Shadows  # for those who want one

            self._registry.shadows = Shadows(self._registry, self._loader.spare)
        models = {name: model for name, model in config.models.items() if model.routed}
        if models or self._metrics.routings:
            from edge.core.routes import Routed

            counts = self._metrics.routing
            self._registry.route({name: Routed(model.routing, counts(name)) for name, model in models.items()})

    async def _open_doors(self, config: Config) -> None:
        behind = Behind(
            self._registry,
            self._catalog,
            self._control,
            self._metrics,
            self._reloading.want,
            self._reloading.reconfigure if self._conduct is not None else None,
        )
        boot = Boot(os.urandom(16).hex(), version(), time.time(), self._deaths.last_exit)
        self._doors = Doors(config, behind, boot, self._supervised.sockets, hold=self._conduct is not None)
        addresses = self._addresses = await self._doors.open()
        log.info("listening on %s", addresses.shown)
        self._announcer = announcer(config, addresses.url, self._catalog, self._keepsakes)
        if self._announcer is not None:
            self._announcer.start()
        if self._announce is not None:
            self._announce(addresses)

    async def _let_in(self, hold_s: float) -> None:
        """Who waits at a socket from systemd waits on until the models serve: a restart costs a while, and no answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold_s):
                await self._manager.first_tried()
        try:
            await self._doors.accept()
        except OSError as error:  # somebody was quicker to listen where we were bound
            log.error("cannot listen: %s", error)
            self._code = 1
            self.stop.set()
            return
        if self._conduct is not None:
            self._conduct.opened(self._addresses)

    def _standing(self) -> str:
        return ("starting: " if self._manager.starting else "") + standing(self._catalog.models())

    def _hung(self) -> str:
        return self._registry.hung(time.monotonic())


def doubt_processor(cpuinfo: Path) -> None:
    """Say so where the runtimes cannot see what the processor has. Blocks."""
    try:
        cpuinfo.open("rb").close()
    except OSError as error:
        log.warning(
            "%s cannot be opened (%s): quantized models may take 100 times as long; what hides it must go, such as "
            "ProcSubset=pid in a unit",
            cpuinfo,
            error.strerror,
        )


def _deaths(state_dir: Path | None) -> Deaths:
    if state_dir is None or not claim(state_dir):
        return Deaths(None)
    return Deaths(state_dir, crashed=bool(lastwords.take(state_dir)))
