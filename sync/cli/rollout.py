"""`edge-sync rollout`: who runs what."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from sync.agent.files import OsFiles
from sync.cli.completion import model_names
from sync.cli.nudge import nudge
from sync.cli.options import json_option, operator, ring
from sync.cli.output import print_json, quietly, say
from sync.cli.root import wait
from sync.cli.standing import Pinned, as_json, listed, words
from sync.cli.units import duration, instant
from sync.domain.errors import Missing, OperatorError
from sync.domain.layout import PINS, groups_of, manifest_name, rollout_name
from sync.domain.rollout import PIN_BINS, Pins, Rollout, encode, is_group, parse_pins, parse_rollout, pin_bin
from sync.fleet import rollouts
from sync.fleet.reports import ReportDirectory
from sync.fleet.sign import Repository, Transaction
from sync.fleet.standing import standing
from sync.stores.catalog import writing_to

F = TypeVar("F", bound=Callable[..., Any])
MAX_P99_RATIO = 1e6
"""What devices take."""


@click.group()
def rollout() -> None:
    """Bring published versions to devices, and take them back."""


def _of_group(command: F) -> F:
    return click.option("--group", default="default", show_default=True, help="The devices'.")(
        operator(json_option(command))
    )


def _tell(told: dict[str, object], text: str, *, json: bool) -> None:
    if json:
        print_json(told)
    else:
        say(text)


def _change(
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    group: str,
    change: Callable[[Rollout], Rollout],
    *,
    wants: tuple[str, int] | None = None,
) -> Rollout:
    """Read the group's document, change it, sign it. Raises SyncError."""
    if not is_group(group):
        raise OperatorError(f"--group: want letters, digits, '_' and '-', got {group!r}")

    async def work() -> Rollout:
        async with writing_to(store) as opened:
            repository = Repository(opened, ring(keys_dir, passphrase_file))
            await repository.open()
            if wants is not None:
                await _want_released(repository, *wants)
            data = await repository.read("rollouts", rollout_name(group))
            after = change(parse_rollout(data) if data is not None else rollouts.empty(group))
            transaction = Transaction()
            transaction.put("rollouts", rollout_name(group), encode(after))
            await repository.commit(transaction)
            return after

    return wait(work())


def p99_ratio(text: str) -> float:
    """Under 1 a version that is as fast as the old one would be rolled back everywhere."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if ratio != 0 and not 1 <= ratio <= MAX_P99_RATIO:
        raise click.BadParameter(f"want 0, or 1 to {MAX_P99_RATIO:g}, got {text[:40]}")
    return ratio


async def _want_released(repository: Repository, model: str, version: int) -> None:
    if await repository.document("releases", manifest_name(model, version)) is None:
        raise Missing(f"{model}@{version}: is not released")


rollout.add_command(nudge)


@rollout.command()
@click.argument("model", shell_complete=model_names)
@click.argument("version", type=int)
@_of_group
@click.option("--percent", type=click.FloatRange(0, 100), default=100.0, show_default=True, help="Of the group.")
@click.option("--ring", "rings", multiple=True, help="Devices of this ring first.")
@click.option("--window", default="", help="When devices may begin, in their time: 22:00-05:00.")
@click.option(
    "--deadline", type=instant(), default="", help="From when on no window holds anybody back: 3d, 2026-12-01T04:00Z."
)
@click.option("--spread", type=duration(bare=True), help="Over which devices begin: 1h; a bare number is seconds.")
@click.option("--probation", type=duration(bare=True), help="For which the new version is watched: 10m.")
@click.option("--min-requests", type=click.IntRange(min=0), help="So many requests judge it.")
@click.option("--max-error-rate", type=click.FloatRange(0, 1), help="A share of failures above the old version's.")
@click.option(
    "--max-p99-ratio", type=p99_ratio, help="Of a run's time to the old version's, 1 or more; 0: it is not judged."
)
@click.option(
    "--swap", type=click.Choice(["beside", "replace"]), help="Whether the old version stays loaded meanwhile."
)
@quietly
def start(
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    group: str,
    model: str,
    version: int,
    percent: float,
    rings: tuple[str, ...],
    window: str,
    deadline: str,
    spread: float | None,
    probation: float | None,
    min_requests: int | None,
    max_error_rate: float | None,
    max_p99_ratio: float | None,
    swap: str | None,
    json: bool,
) -> None:
    """Bring VERSION of MODEL to a share of the group; with a candidate under way, to a larger share, and to more rings."""

    def change(before: Rollout) -> Rollout:
        document = before if spread is None else rollouts.settings(before, spread_s=spread)
        document = rollouts.judged(
            document, model, seconds=probation, min_requests=min_requests,
            max_error_rate=max_error_rate, max_p99_ratio=max_p99_ratio,
        )  # fmt: skip
        if swap is not None:
            document = rollouts.settings(document, model, swap=swap)
        today = datetime.now(UTC).date().isoformat()
        return rollouts.brought(
            document, model, version, percent=percent, rings=rings, window=window, deadline=deadline, today=today
        )

    after = _change(store, keys_dir, passphrase_file, group, change, wants=(model, version))
    _tell(as_json(after, None), f"{group}: {model}@{version} goes to {percent:g} % of the devices", json=json)


def _verb(name: str, text: str, change: Callable[[Rollout, str], Rollout], said: str) -> None:
    @rollout.command(name, help=text)
    @click.argument("model", shell_complete=model_names)
    @_of_group
    @quietly
    def verb(store: str, keys_dir: Path, passphrase_file: Path | None, group: str, model: str, json: bool) -> None:
        after = _change(store, keys_dir, passphrase_file, group, lambda document: change(document, model))
        _tell(as_json(after, None), f"{group}: {model} {said}", json=json)


_verb("pause", "Nobody else begins; who has the candidate keeps it.", rollouts.paused, "is paused")
_verb("resume", "Go on after a pause.", rollouts.resumed, "goes on")
_verb("promote", "The candidate is what the whole group runs from now on.", rollouts.promoted, "is promoted")
_verb("rollback", "Everybody goes back to the stable version.", rollouts.rolled_back, "is rolled back")


@rollout.command()
@_of_group
@click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), help="Where `edge-sync collect` keeps them."
)
@click.option(
    "--silent-after", type=duration(least=60), default="12h", show_default=True, help="Not heard of for so long."
)
def status(
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    group: str,
    reports: Path | None,
    silent_after: float,
    json: bool,
) -> None:
    """What the group's document says, and how many of its devices are where."""

    async def work() -> tuple[Rollout, Pinned]:
        async with writing_to(store) as opened:
            repository = Repository(opened, ring(keys_dir, passphrase_file))
            await repository.open()
            data = await repository.read("rollouts", rollout_name(group))
            if data is None:
                raise Missing(f"{group}: nobody has written a rollout for it{await _others(repository)}")
            document = parse_rollout(data)
            return document, await _pins(repository) if document.pins_ref else {}

    document, pins = wait(work())
    found = None
    if reports is not None:
        if not reports.is_dir():
            raise Missing(f"{reports}: no such directory")
        logs = ReportDirectory(OsFiles(), reports).logs()
        found = standing(document, logs, time.time(), silent_s=silent_after)
    if json:
        print_json(as_json(document, found, pins))
    else:
        for line in words(document, found, silent_after, pins):
            say(line)


async def _others(repository: Repository) -> str:
    """Which groups there are, for who has named none, or another. Raises StoreError, TrustError."""
    groups = groups_of(await repository.names("rollouts"))
    return f"; want --group, one of {listed(groups)}" if groups else ""


async def _pins(repository: Repository) -> Pinned:
    """Of every device: a pin says nothing of its group. Raises StoreError, TrustError, DocumentError."""
    found: Pinned = {}
    for number in range(PIN_BINS):
        data = await repository.read("rollouts", PINS.replace("<bin>", f"{number:02x}"))
        if data is not None:
            found |= parse_pins(data).devices
    return found


def _pin(
    store: str, keys_dir: Path, passphrase_file: Path | None, group: str, device: str, model: str, version: int | None
) -> None:
    async def work() -> None:
        async with writing_to(store) as opened:
            repository = Repository(opened, ring(keys_dir, passphrase_file))
            await repository.open()
            if version is not None:
                await _want_released(repository, model, version)
            path = PINS.replace("<bin>", pin_bin(device))
            data = await repository.read("rollouts", path)
            before: Pins | None = parse_pins(data) if data is not None else None
            data = await repository.read("rollouts", rollout_name(group))
            document = parse_rollout(data) if data is not None else rollouts.empty(group)
            transaction = Transaction()
            after = rollouts.pinned(before, device, model, version, after=document.seq)
            transaction.put("rollouts", path, encode(after))
            if document.pins_ref != PINS:
                transaction.put("rollouts", rollout_name(group), encode(rollouts.settings(document, pins_ref=PINS)))
            await repository.commit(transaction)

    wait(work())


@rollout.command()
@click.argument("device")
@click.argument("model", shell_complete=model_names)
@click.argument("version", type=int)
@_of_group
@quietly
def pin(
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    group: str,
    device: str,
    model: str,
    version: int,
    json: bool,
) -> None:
    """DEVICE runs VERSION of MODEL, whatever else is rolled out."""
    _pin(store, keys_dir, passphrase_file, group, device, model, version)
    told: dict[str, object] = {"device": device, "model": model, "pinned": version}
    _tell(told, f"{device}: {model} is pinned to {version}", json=json)


@rollout.command()
@click.argument("device")
@click.argument("model", shell_complete=model_names)
@_of_group
@quietly
def unpin(
    store: str, keys_dir: Path, passphrase_file: Path | None, group: str, device: str, model: str, json: bool
) -> None:
    """DEVICE goes with its group again."""
    _pin(store, keys_dir, passphrase_file, group, device, model, None)
    told: dict[str, object] = {"device": device, "model": model, "pinned": None}
    _tell(told, f"{device}: {model} goes with the group", json=json)
