"""`edge-sync withdraw`: versions that nobody shall roll out any more."""

from __future__ import annotations

from pathlib import Path

import click

from sync.cli.completion import model_names
from sync.cli.options import json_option, operator, quiet_option, ring
from sync.cli.output import print_json, say
from sync.cli.progress import shown
from sync.cli.root import wait
from sync.cli.units import say_size
from sync.fleet.sign import Repository
from sync.fleet.withdraw import Withdrawal
from sync.fleet.withdraw import withdraw as withdraw_versions
from sync.stores.catalog import writing_to


@click.command()
@click.argument("name", shell_complete=model_names)
@click.argument("versions", metavar="[VERSION]...", type=click.IntRange(min=0), nargs=-1)
@operator
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    help="In place of VERSION: of the versions that no rollout names, all but so many of the newest.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and write nothing.")
@json_option
@quiet_option
def withdraw(
    name: str,
    versions: tuple[int, ...],
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    keep: int | None,
    dry_run: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Take versions of NAME that no rollout names out of what is released; devices that run them serve them on."""
    if bool(versions) == (keep is not None):
        raise click.UsageError("want either versions or --keep")
    show = shown(quiet=quiet or json)

    async def work() -> Withdrawal:
        try:
            async with writing_to(store) as opened:
                repository = Repository(opened, ring(keys_dir, passphrase_file))
                await repository.open()
                return await withdraw_versions(repository, name, versions, keep=keep, dry_run=dry_run, progress=show)
        finally:
            show.end()

    done = wait(work())
    if json:
        print_json(_as_json(name, done, dry_run=dry_run))
    else:
        _tell(name, done, dry_run=dry_run)


def _tell(name: str, done: Withdrawal, *, dry_run: bool) -> None:
    for version in done.versions:
        say(f"{name}@{version}: {'would be' if dry_run else 'is'} withdrawn")
    for version in done.before:
        say(f"{name}@{version}: had been withdrawn before")
    if done.versions:
        say(
            f"{name}: {_patches(done.patches, dry_run)}`edge-sync gc` {'would free' if dry_run else 'frees'} "
            f"{say_size(done.size)} when its --keep and --grace are over"
        )
    elif not done.before:
        say(f"{name}: nothing to withdraw: of {len(done.left)} versions, {len(done.named)} are named by rollouts")


def _patches(count: int, dry_run: bool) -> str:
    if count == 0:
        return ""
    goes = "would go" if dry_run else "is gone" if count == 1 else "are gone"
    return f"{count} patch{'es' if count > 1 else ''} {goes} too; "


def _as_json(name: str, done: Withdrawal, *, dry_run: bool) -> dict[str, object]:
    return {
        "name": name,
        "dry_run": dry_run,
        "withdrawn": list(done.versions),
        "withdrawn_before": list(done.before),
        "left": list(done.left),
        "named": {str(version): [str(use) for use in uses] for version, uses in done.named.items()},
        "patches": done.patches,
        "bytes": done.size,
    }
