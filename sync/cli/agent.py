"""`edge-sync agent`: the process on the device, and what it is doing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import click
import msgspec

from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.status import tell
from sync.agent.updater import UpdateLimits
from sync.cli.root import wait
from sync.config import Config, load_config
from sync.domain.journal import Journal

ONCE_WITHIN_S = 3600.0


@click.group()
def agent() -> None:
    """Bring this device what its group runs."""


def _configured(command: Any) -> Any:
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the configuration."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="EDGE_SYNC_CONFIG",
            show_envvar=True,
            help="A TOML file.",
        ),
    ):
        command = option(command)
    return command


def _load(config: Path | None, settings: tuple[str, ...]) -> Config:
    flags = dict(each.partition("=")[::2] for each in settings)
    environment = {name: value for name, value in os.environ.items() if "__" in name}
    return load_config(config, environment, flags)


def _log(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@agent.command()
@_configured
@click.option("--watch-s", type=float, default=1.0, hidden=True)
def run(config: Path | None, settings: tuple[str, ...], watch_s: float) -> None:
    """Poll, update and report until SIGTERM."""
    _log("INFO")
    loaded = _load(config, settings)

    async def work() -> None:
        from sync.app import assemble

        assembled = await asyncio.to_thread(assemble, loaded, limits=UpdateLimits(watch_s=watch_s))
        task = asyncio.ensure_future(assembled.agent.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            logging.getLogger("sync").info("stopped")
        finally:
            await assembled.close()

    wait(work())


@agent.command()
@_configured
@click.option("--within", type=float, default=ONCE_WITHIN_S, show_default=True, help="Seconds, at most.")
@click.option("--watch-s", type=float, default=1.0, hidden=True)
def once(config: Path | None, settings: tuple[str, ...], within: float, watch_s: float) -> int:
    """Poll once, and follow what begins to its end."""
    _log("INFO")
    loaded = _load(config, settings)

    async def work() -> bool:
        from sync.app import assemble

        assembled = await asyncio.to_thread(assemble, loaded, limits=UpdateLimits(watch_s=watch_s))
        try:
            return await assembled.agent.once(within_s=within)
        finally:
            await assembled.close()

    return 0 if wait(work()) else 1


@agent.command()
@_configured
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """What runs, what is wanted, why not yet, and what happens next."""
    loaded = _load(config, settings)
    state_dir = Path(loaded.paths.state_dir)
    file = JournalFile(OsFiles(), state_dir / "state.json", Path(loaded.paths.models_dir))
    journal: Journal = file.peek()
    if as_json:
        print(json.dumps(msgspec.to_builtins(journal), indent=2))
    else:
        print(tell(journal))
