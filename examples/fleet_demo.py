"""The demo of a fleet: signed versions, one device, and every way in which a version may turn out bad.

    uv run examples/fleet_demo.py [--quick]

It makes keys and a store in a temporary directory, starts a real server and a real agent, and acts as their operator:
a good version is rolled out under load, then one that fails its golden vectors, then one that passes them and fails on
its clients, and both once more with `kill -9` in between. Whatever it claims it has checked; it leaves with 1 at the
first claim that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import msgspec
import numpy as np
from fleet_parts import versions
from fleet_parts.device import DemoFailed, Device
from fleet_parts.load import Count, Load
from fleet_parts.office import Office

from sync.domain.errors import SyncError
from sync.domain.journal import Phase, parse_journal
from sync.domain.report import ModelReport, Report
from sync.stores.directory import DirectoryStore

MODEL = "digits"
NAME = "dev-1"
GOOD = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. load_s: for which each situation is looked at. probation_s: of the good version."""

    load_s: float = 2.0
    probation_s: float = 5.0


LONG_PROBATION_S = 600.0
"""Of versions that are bad: it is their answers that end it."""


class Story:
    """Top to bottom, what happens. `claims`: how many held."""

    def __init__(self, room: Path, digits: Path, office: Office, pace: Pace) -> None:
        self._room, self._digits, self._office, self._pace = room, digits, office, pace
        self.claims = 0
        self.total = Count()

    async def tell(self) -> None:
        """Raises DemoFailed, SyncError, TimeoutError."""
        await self._keys_and_store()
        device = Device(self._room, NAME, store=f"{self._office.url}/store", reports=f"{self._office.url}/reports")
        try:
            await self._first_version(device)
            with np.load(self._digits / "held_back.npz") as held:
                images = held["images"]
            async with Load(device.port, images) as load:
                await self._good_version(load)
                await self._fails_golden(load, 3)
                await self._fails_clients(load, 4)
                await self._fails_golden(load, 5, device)
                await self._fails_clients(load, 6, device)
                await load.lap()
                self.total = load.total
        except (DemoFailed, SyncError, TimeoutError) as error:
            raise DemoFailed(f"{str(error) or 'it took too long'}{device.last_words()}") from None
        finally:
            await device.stop()

    # -- what happens

    async def _keys_and_store(self) -> None:
        title("Keys, and a store that they sign")
        await self._office.edge_sync("keys", "init", "--root", self._room / "root.json")
        for version in (1, 2):
            await self._publish(self._digits / str(version), version)

    async def _first_version(self, device: Device) -> None:
        title(f"A device: {NAME} knows the store's address and its root.json, and serves nothing yet")
        await self._office.edge_sync("rollout", "start", MODEL, 1, "--spread", 0, "--probation", 0)
        await self._office.edge_sync("rollout", "promote", MODEL)
        await device.start_server()
        await device.start_agent()
        report = await self._office.report(MODEL, done("committed_idle", 1), after=0)
        self._claim("the agent has brought version 1, and the server serves it", active(report) == 1)

    async def _good_version(self, load: Load) -> None:
        title("Version 2 to 100 % of the fleet, while clients keep asking")
        await load.lap()
        after = len(self._office.reports)
        await asyncio.sleep(self._pace.load_s)
        await self._start(2, "--probation", self._pace.probation_s, "--max-p99-ratio", 0)
        say("(it is a larger net than version 1: that it is slower is meant, and not judged)")
        report = await self._office.report(MODEL, done("committed", 2), after=after)
        await asyncio.sleep(self._pace.load_s)
        seen = await load.lap()
        say(seen)
        self._claim("no request failed", not seen.failed and not seen.unheard)
        self._claim("both versions answered, and nothing else", set(seen.answered) == {1, 2})
        self._claim("version 2 has passed its probation, and is committed", active(report) == 2)
        await self._office.edge_sync("rollout", "promote", MODEL)

    async def _fails_golden(self, load: Load, version: int, device: Device | None = None) -> None:
        """A version of the wrong model. With a `device`, its agent and its server are killed on the way."""
        killed = ", and kill -9 in between" if device else ""
        title(f"Version {version} fails its golden vectors{killed}")
        directory = self._room / f"{MODEL}-{version}"
        versions.with_the_wrong_model(self._digits, directory)
        said = await self._publish(directory, version, fails_with=5)
        self._claim("edge-sync publish refuses it", "elements are not within" in said)
        await self._sign_unchecked(directory, version)
        await load.lap()
        after = len(self._office.reports)
        await self._start(version)
        if device:
            await self._office.report(MODEL, lambda model: model.phase == "swapping", after=after)
            await self._kill_and_restart(device)
        report = await self._office.report(MODEL, done("failed", GOOD), after=after)
        await asyncio.sleep(self._pace.load_s)
        seen = await load.lap()
        say(seen)
        self._claim(f"version {version} never answered a request", set(seen.answered) == {GOOD})
        self._claim("no request failed", not seen.failed and bool(device) == bool(seen.unheard))
        self._tell_report(report, version, "selftest_failed")
        await self._office.edge_sync("rollout", "rollback", MODEL)

    async def _fails_clients(self, load: Load, version: int, device: Device | None = None) -> None:
        """A version that is good with pale pictures only. With a `device`, its agent and its server are killed on the way."""
        killed = ", and kill -9 in between" if device else ""
        title(f"Version {version} passes its golden vectors, and fails on its clients{killed}")
        directory = self._room / f"{MODEL}-{version}"
        versions.good_with_pale_pictures_only(self._digits, directory)
        await self._publish(directory, version)
        load.pale = True
        await load.lap()
        after = len(self._office.reports)
        await self._start(version, "--probation", LONG_PROBATION_S)
        on_probation = await self._office.report(MODEL, lambda model: model.phase == "probation", after=after)
        self._claim(f"version {version} has passed its trial, and serves on probation", active(on_probation) == version)
        seen = await load.lap()
        if device:
            await self._kill_and_restart(device)
            seen += await self._still_on_probation(load, device, version)
        await asyncio.sleep(self._pace.load_s)
        seen += await load.lap()
        say(f"pale pictures: {seen}")
        self._claim("it answers pale pictures", seen.answered[version] > 0 and not seen.failed)
        await self._bright_pictures(load, version, after)

    async def _bright_pictures(self, load: Load, version: int, after: int) -> None:
        await load.lap()
        load.pale, began = False, time.monotonic()
        report = await self._office.report(MODEL, done("rolled_back", GOOD), after=after)
        took_s = time.monotonic() - began
        seen = await load.lap()
        say(f"bright pictures: {seen}")
        self._claim(f"version {version} failed on them, and was taken back {took_s:.1f} s later", bool(seen.failed))
        await asyncio.sleep(self._pace.load_s)
        seen = await load.lap()
        say(f"from then on: {seen}")
        self._claim(f"version {GOOD} answers, and no request fails", set(seen.answered) == {GOOD} and not seen.failed)
        self._tell_report(report, version, "health_errors")
        await self._office.edge_sync("rollout", "rollback", MODEL)

    async def _kill_and_restart(self, device: Device) -> None:
        await device.kill("agent", "server")
        say("kill -9 of the agent and of the server; both are started again, as systemd would")
        await device.start_server()
        await device.start_agent()

    async def _still_on_probation(self, load: Load, device: Device, version: int) -> Count:
        """What clients saw meanwhile."""
        await self._office.edge_sync("agent", "status", "--config", device.config)
        state = parse_journal(await asyncio.to_thread(device.journal.read_bytes)).models[MODEL]
        self._claim("the agent knows where it was", state.phase is Phase.PROBATION)
        away = await load.lap()
        await load.heard()
        seen = await load.lap()
        self._claim(f"and version {version} serves on", set(seen.answered) == {version})
        return away + seen

    # -- what the acts share

    async def _publish(self, directory: Path, version: int, *, fails_with: int = 0) -> str:
        return await self._office.edge_sync(
            "publish", directory, "--name", MODEL, "--version", version, fails_with=fails_with
        )

    async def _sign_unchecked(self, directory: Path, version: int) -> None:
        await versions.sign_unchecked(DirectoryStore(self._office.store), self._office.keys, directory, version)
        say("so the holder of the key signs it with a tool that does not check")

    async def _start(self, version: int, *options: object) -> None:
        await self._office.edge_sync("rollout", "start", MODEL, version, "--percent", 100, *options)

    def _claim(self, what: str, holds: bool) -> None:
        """Raises DemoFailed."""
        if not holds:
            raise DemoFailed(f"this did not hold: {what}")
        self.claims += 1
        say(f"✓ {what}")

    def _tell_report(self, report: Report, version: int, reason: str) -> None:
        model = report.models[MODEL]
        say(f"report {report.seq} of {report.device}, which says why:")
        for line in json.dumps(msgspec.to_builtins(model), indent=2, ensure_ascii=False).splitlines():
            say(f"  {line}")
        holds = model.reason == reason and model.active == GOOD and bool(model.detail)
        self._claim(
            f"it names version {GOOD} as the one that serves, and {reason} as what version {version} died of", holds
        )


def done(outcome: str, version: int) -> Callable[[ModelReport], bool]:
    """Of a report's model: that an update has ended like this, and the version serves."""
    return lambda model: (model.phase, model.outcome, model.active) == ("idle", outcome, version)


def active(report: Report) -> int | None:
    return report.models[MODEL].active


def title(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def say(what: object) -> None:
    print(f"  {what}", flush=True)


async def play(pace: Pace) -> None:
    """Raises DemoFailed."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # the last by a terminal that is closed
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    began = time.monotonic()
    shipped = files("edge") / "data" / MODEL
    with tempfile.TemporaryDirectory(prefix="edge-fleet-") as folder, as_file(shipped) as digits:
        async with Office(Path(folder)) as office:
            story = Story(Path(folder), digits, office, pace)
            await story.tell()
    title(f"All {story.claims} claims held, in {time.monotonic() - began:.0f} s")
    say(story.total)


def main() -> int:
    parser = argparse.ArgumentParser(description="The demo of a fleet.")
    parser.add_argument("--quick", action="store_true", help="look at each situation for a shorter time")
    quick = parser.parse_args().quick
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✓
    try:
        asyncio.run(play(Pace(load_s=0.5, probation_s=1.0) if quick else Pace()))
    except DemoFailed as error:
        print(f"\nfleet demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
