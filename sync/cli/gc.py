"""`edge-sync gc`: what nothing in a store needs any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sync.cli.options import json_option, quiet_option, root_bytes, root_option, store_option
from sync.cli.output import print_json, say
from sync.cli.progress import shown
from sync.cli.root import wait
from sync.cli.units import duration, say_size
from sync.fleet.garbage import ORDER, Garbage, find, sweep
from sync.stores.catalog import writing_to


@click.command()
@store_option
@root_option
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option(
    "--grace",
    type=duration(least=3600),
    default="7d",
    show_default=True,
    help="What nothing names stays for so long: somebody may be about to sign it.",
)
@click.option(
    "--keep",
    type=duration(least=86400),
    default="30d",
    show_default=True,
    help="What superseded metadata names stays for so long: a slow device may be at it.",
)
@json_option
@quiet_option
def gc(store: str, root: Path | None, dry_run: bool, grace: float, keep: float, json: bool, quiet: bool) -> None:
    """Delete what neither the state in force nor a slow device needs. Needs no key."""
    provisioned = root_bytes(root)
    show = shown(quiet=quiet or json)

    async def work() -> Garbage:
        try:
            async with writing_to(store) as opened:
                found = await find(
                    opened,
                    now=datetime.now(UTC),
                    first_root=provisioned,
                    keep=timedelta(seconds=keep),
                    grace=timedelta(seconds=grace),
                    progress=show,
                )
                if not dry_run:
                    await sweep(opened, found, show)
                return found
        finally:
            show.end()

    garbage = wait(work())
    if json:
        print_json(_as_json(garbage, dry_run=dry_run))
    else:
        _tell(store, garbage, dry_run=dry_run)


def _tell(store: str, garbage: Garbage, *, dry_run: bool) -> None:
    for one in garbage.unneeded if dry_run else ():
        when = datetime.fromtimestamp(one.changed, UTC)
        say(f"{one.kind:8}  {say_size(one.size):>10}  {when:%Y-%m-%d}  {one.path}")
    does = "would go" if dry_run else "are gone"
    for kind in ORDER:
        mine = [one for one in garbage.unneeded if one.kind == kind]
        if mine:
            say(f"{len(mine)} of {kind} ({say_size(sum(one.size for one in mine))}) {does}")
    kept = f"{garbage.kept} objects ({say_size(garbage.kept_size)}) are needed"
    young = f", {garbage.young} ({say_size(garbage.young_size)}) may yet be" if garbage.young else ""
    other = f"; {garbage.unknown} are not ours" if garbage.unknown else ""
    nothing = "" if garbage.unneeded else "nothing to delete; "
    say(f"{store}: {nothing}{kept}{young}{other}")


def _as_json(garbage: Garbage, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "unneeded": [
            {"kind": one.kind, "path": one.path, "bytes": one.size, "changed": one.changed} for one in garbage.unneeded
        ],
        "bytes": garbage.size,
        "deleted": garbage.deleted,
        "kept": {"objects": garbage.kept, "bytes": garbage.kept_size},
        "young": {"objects": garbage.young, "bytes": garbage.young_size},
        "unknown": garbage.unknown,
    }
