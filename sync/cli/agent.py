"""`edge-sync agent`: the process on the device, and what it is doing."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from sync.agent.status import as_text, tell
from sync.agent.supervised import standing, supervised
from sync.agent.told import Told
from sync.agent.words import lasting
from sync.cli.configured import configured, load
from sync.cli.output import print_json, say
from sync.cli.root import exit_code, wait
from sync.config import Config
from sync.doctor.look import look
from sync.domain.errors import OperatorError, SyncError

ONCE_WITHIN_S = 3600.0


@click.group()
def agent() -> None:
    """Bring this device what its group runs."""


def _log(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it lists every signature that it tries


def _as_json(config: Config, told: Told) -> dict[str, object]:
    return {"device": config.device.id, "group": config.device.group, **msgspec.to_builtins(told)}


@agent.command()
@configured
@click.option("--watch-s", hidden=True)
def run(config: Path | None, settings: tuple[str, ...], watch_s: str | None) -> None:
    """Poll, update and report until SIGTERM."""
    _log("INFO")
    loaded = load(config, settings, watch_s)

    async def work() -> None:
        from sync.app import assemble

        assembled = await asyncio.to_thread(assemble, loaded)
        device, asks = loaded.device, f"asks {loaded.store.url} every {lasting(loaded.poll.every_s)}"
        logging.getLogger("sync").info(
            "%s, of the group %s, %s; `edge-sync agent status` says more", device.id, device.group, asks
        )
        task = asyncio.ensure_future(assembled.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            async with supervised(lambda: standing(assembled.journal.value, assembled.agent.problem)):
                await task
        except asyncio.CancelledError:
            logging.getLogger("sync").info("stopped")
        finally:
            await assembled.close()

    wait(work())


@agent.command()
@configured
@click.option(
    "--within",
    type=float,
    default=ONCE_WITHIN_S,
    show_default=True,
    help="Seconds for what has begun to end, at most; a probation alone takes minutes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch-s", hidden=True)
def once(config: Path | None, settings: tuple[str, ...], within: float, as_json: bool, watch_s: str | None) -> int:
    """Poll once, and follow what begins to its end: for up to --within, an hour. Reports that wait are sent then, and also at
    SIGTERM, for up to 30 s more."""
    _log("INFO")
    loaded = load(config, settings, watch_s)

    async def work() -> tuple[bool, SyncError | None]:
        from sync.app import assemble

        assembled = await asyncio.to_thread(assemble, loaded)
        try:
            await assembled.start()
            task = asyncio.ensure_future(assembled.agent.once(within_s=within))
            if threading.current_thread() is threading.main_thread():  # signals come to no other
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            return await task, assembled.agent.problem
        except asyncio.CancelledError:
            logging.getLogger("sync").info("stopped")
            return False, None
        finally:
            await assembled.close()

    done, problem = wait(work())
    if as_json:
        view = replace(wait(look(loaded)), running=False)  # this process is at its end
        print_json({"done": done, **_as_json(loaded, tell(view))})
    return 0 if done else exit_code(problem) if problem is not None else 1


@agent.command()
@configured
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """What runs, what is wanted, why not yet, and what happens next."""
    loaded = load(config, settings)
    told = tell(wait(look(loaded)))
    if as_json:
        print_json(_as_json(loaded, told))
    else:
        say(f"device  {loaded.device.id}, of the group {loaded.device.group}")
        for line in as_text(told).split("\n"):
            say(line)


@agent.command()
@configured
@click.option("--quiet", is_flag=True, help="Leave out what is well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: Path | None, settings: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Check all that an update needs, and say what to do where it is not well. Changes nothing."""
    from sync.doctor.examine import examine
    from sync.doctor.finding import Level, fail

    _log("CRITICAL")  # what is found is said once
    try:
        loaded = load(config, settings)
    except OperatorError as error:
        findings = [fail("configuration", error, "mend the file, the variable or the flag")]
    else:
        findings = wait(examine(loaded))
    counts = {level.value: sum(each.level is level for each in findings) for level in Level}
    if as_json:
        rows = [
            {
                "check": each.check,
                "level": each.level.value,
                "text": each.text,
                "do": each.do,
                "reason": each.error.reason.value if each.error is not None else "",
            }
            for each in findings
        ]
        print_json({"well": not counts["fail"], **counts, "checks": rows})
    else:
        for each in [each for each in findings if not quiet or each.level is not Level.OK]:
            for line in f"{each.level.value:5} {each.check:14} {each.text}".split("\n"):
                say(line)
            if each.do:
                say(f"{'':20} → {each.do}")
        if not quiet:
            print(f"{counts['ok']} well, {counts['warn']} to be seen to, {counts['fail']} wrong")
    return next((exit_code(each.error) for each in findings if each.error is not None), 0)
