"""`edge-sync keys`: who may say what, and for how long it holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from sync.cli.options import json_option, operator, ring
from sync.cli.output import print_json, quietly
from sync.cli.root import wait
from sync.domain.errors import OperatorError
from sync.fleet.keys import ROLES
from sync.fleet.sign import Repository
from sync.fleet.sign.repository import BINS
from sync.stores.catalog import writing_to


@click.group()
def keys() -> None:
    """Make, renew and show the keys of a store."""


@keys.command()
@operator
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("root.json"),
    show_default=True,
    help="Where to put what devices are provisioned with.",
)
@click.option(
    "--bins",
    type=click.Choice(["1", "4", "16", "32", "64", "256"]),
    default="32",
    show_default=True,
    help="Parts of the lists of rollouts and of releases, of which a device reads its own. From 500 groups on, 64; from 3,000 on, 256.",
)
@json_option
@quietly
def init(store: str, keys_dir: Path, passphrase_file: Path | None, root: Path, bins: str, json: bool) -> None:
    """Make keys for every role, and an empty store that they sign."""
    made = ring(keys_dir, passphrase_file)
    if made.first_root() is not None and made.seen():
        raise OperatorError(f"{keys_dir}: has keys of a store already; they are never overwritten")
    if root.exists():
        raise OperatorError(f"{root.absolute()}: is there already; with --root it goes elsewhere")
    for role in ROLES.values():
        if not made.paths(role.name):  # an attempt that was cut short is gone on with
            made.make(role)

    async def work() -> bytes:
        async with writing_to(store) as opened:
            return await Repository(opened, made).create(bins=dict.fromkeys(BINS, int(bins).bit_length() - 1))

    data = wait(work())
    root.write_bytes(data)
    if json:
        print_json({"store": store, "root": str(root)})
        return
    print(f"{store}: an empty store, signed. Devices want {root.absolute()}.")
    print(f"Put {keys_dir}/offline away: it signs releases and new keys. {keys_dir}/online signs rollouts, daily.")


@keys.command()
@operator
@click.argument("role", type=click.Choice(list(ROLES)))
@json_option
@quietly
def rotate(store: str, keys_dir: Path, passphrase_file: Path | None, role: str, json: bool) -> None:
    """New keys for ROLE, in place of the old ones."""

    async def work() -> None:
        async with writing_to(store) as opened:
            repository = Repository(opened, ring(keys_dir, passphrase_file))
            await repository.open()
            await repository.rotate(role)

    wait(work())
    if json:
        print_json({"store": store, "rotated": role})
        return
    print(f"{role}: new keys are in force; the old ones sign nothing any more")


@keys.command()
@operator
@json_option
def show(store: str, keys_dir: Path, passphrase_file: Path | None, json: bool) -> None:
    """Roles, which of their keys are here, and when their signatures end."""
    held = ring(keys_dir, passphrase_file)

    async def work() -> Repository:
        async with writing_to(store) as opened:
            repository = Repository(opened, held)
            await repository.open()
            return repository

    ends = wait(work()).due(timedelta(days=36500))
    rows = [
        {"role": name, "place": role.place, "here": len(held.paths(name)), "threshold": role.threshold,
         "expires": ends[name].isoformat()}
        for name, role in ROLES.items()
    ]  # fmt: skip
    if json:
        print_json(rows)
        return
    print(f"{'ROLE':10} {'KEYS HERE':10} {'WANTED':7} EXPIRES")
    for row in rows:
        print(f"{row['role']:10} {row['here']:<10} {row['threshold']:<7} {row['expires']}")
