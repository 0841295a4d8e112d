"""`edge-sync publish`: a version of a model into the store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.domain.layout import is_model_name
from sync.cli.options import operator, ring
from sync.cli.output import quietly
from sync.cli.root import wait
from sync.fleet.publish import Published, Wanted
from sync.fleet.publish import publish as publish_version
from sync.fleet.sign import Repository
from sync.stores.catalog import writing_to


def _model_name(_: click.Context, __: click.Parameter, name: str) -> str:
    if not is_model_name(name):
        raise click.BadParameter(
            f"want letters, digits, '.', '_' and '-', at most 128, the first no sign; got {name!r:.80}"
        )
    return name


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@operator
@click.option("--name", required=True, callback=_model_name, help="The model's.")
@click.option("--version", type=click.IntRange(min=0), required=True)
@click.option("--variant", default="cpu", show_default=True, help="Of several builds of one version, this one.")
@click.option("--accel", multiple=True, help="What a device must have for it.  [default: a variant's name, or cpu]")
@click.option(
    "--priority", type=int, help="Of the variants that fit, the highest is taken.  [default: 10; gpu 20, edgetpu 30]"
)
@click.option("--min-counter", type=int, help="Devices run nothing below this from now on.")
@click.option("--breaking", is_flag=True, help="Its inputs and outputs are meant to differ from the last version's.")
@click.option("--private", is_flag=True, help="Devices must not share its files with their neighbours.")
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@quietly
def publish(
    directory: Path,
    store: str,
    keys_dir: Path,
    passphrase_file: Path | None,
    name: str,
    version: int,
    variant: str,
    accel: tuple[str, ...],
    priority: int | None,
    min_counter: int | None,
    breaking: bool,
    private: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Check the version in DIRECTORY, and put it into the store. No device takes it before a rollout says so."""
    wanted = Wanted(
        name,
        version,
        directory,
        variant,
        accel,
        priority,
        min_counter=min_counter,
        breaking=breaking,
        share=not private,
    )

    async def work() -> Published:
        async with writing_to(store) as opened:
            repository = Repository(opened, ring(keys_dir, passphrase_file))
            await repository.open()
            return await publish_version(repository, opened, wanted, dry_run=dry_run)

    _tell(wanted, wait(work()), as_json=as_json)


def _tell(wanted: Wanted, done: Published, *, as_json: bool) -> None:
    if as_json:
        told = {"name": wanted.model, "version": wanted.version, "written": done.written, "bytes": done.full}
        print(json.dumps({**told, "fetched": done.fetched}))
        return
    did = "published" if done.written else "would be published"
    print(f"{wanted.model}@{wanted.version} ({wanted.variant}): {did}")
    for base, size in done.fetched.items():
        print(f"  a device with {base if base == 'nothing' else f'version {base}'} fetches {size:,} bytes")
