"""`edge-sync refresh`: what the online keys sign, signed anew before it ends: once, or for as long as it runs."""

from __future__ import annotations

import asyncio
import json as json_format
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from sync.cli.options import json_option, operator, ring
from sync.cli.output import print_json, quietly, say, warn
from sync.cli.root import wait
from sync.cli.units import duration, say_duration
from sync.domain.errors import SyncError
from sync.fleet.renewal import MOST_S, Listener, Renewed, keep_renewed, renew
from sync.fleet.sign import Repository
from sync.stores.catalog import writing_to

STOP_WITHIN_S = 30.0
"""After SIGTERM a transaction may go on for so long."""


@click.command()
@operator
@click.option("--every", type=duration(least=60, most=MOST_S), help="Go on, and do it again after so long: 12h.")
@click.option(
    "--also", multiple=True, type=click.Choice(["targets", "releases"]), help="Sign this too: its key must be here."
)
@json_option
@quietly
def refresh(
    store: str, keys_dir: Path, passphrase_file: Path | None, every: float | None, also: tuple[str, ...], json: bool
) -> None:
    """Sign anew what the online keys sign, where half of its time is over."""
    held = ring(keys_dir, passphrase_file)

    async def work() -> Renewed:
        async with writing_to(store) as opened:
            return await renew(Repository(opened, held), also)

    if every is None:
        done = wait(work())
        if json:
            print_json(_as_json(done))
        else:
            _tell(store, done)
        return
    wait(_run(work, every, _Lines(store) if json else _Words(store)))


class _Words:
    """For people, and for logs."""

    def __init__(self, store: str) -> None:
        self._store = store

    def renewed(self, what: Renewed) -> None:
        _tell(self._store, what)

    def failed(self, error: SyncError, again_s: float) -> None:
        warn(f"{self._store}: not signed anew: {error.message}; again in {say_duration(again_s)}")


class _Lines:
    """One JSON object to a line."""

    def __init__(self, store: str) -> None:
        self._store = store

    def renewed(self, what: Renewed) -> None:
        print(json_format.dumps({"at": datetime.now(UTC).isoformat(), **_as_json(what)}), flush=True)

    def failed(self, error: SyncError, again_s: float) -> None:
        told = {"reason": error.reason.value, "detail": error.message, "again_s": round(again_s)}
        print(json_format.dumps({"at": datetime.now(UTC).isoformat(), "error": told}), flush=True)


async def _run(work: Callable[[], Awaitable[Renewed]], every_s: float, listener: Listener) -> None:
    from sync.agent.clock import SystemClock

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.ensure_future(keep_renewed(work, every_s=every_s, clock=SystemClock(), stop=stop, listener=listener))

    def end() -> None:
        stop.set()
        loop.call_later(STOP_WITHIN_S, task.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with suppress(asyncio.CancelledError):
        await task
    warn("stopped")


def _tell(store: str, done: Renewed) -> None:
    say(f"{store}: signed anew: {', '.join(done.signed)}")
    for role, end in done.ending.items():
        how = "`edge-sync keys rotate root`" if role == "root" else f"`edge-sync refresh --also {role}`, with its key"
        warn(f"WARN   {role}: its signature ends {end:%Y-%m-%d %H:%M} UTC; {how} renews it")


def _as_json(done: Renewed) -> dict[str, object]:
    return {"signed": list(done.signed), "ending": {role: end.isoformat() for role, end in done.ending.items()}}
