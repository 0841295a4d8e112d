"""`edge-sync mirror`: a store copied into another."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from sync.cli.options import json_option, quiet_option, reading, root_bytes, root_option
from sync.cli.output import counted, faults_as_json, print_faults, print_json, say, warn
from sync.cli.progress import shown
from sync.cli.root import FAILED_CHECK, UNREACHABLE, wait
from sync.cli.units import say_size
from sync.domain.errors import TooSlow, Unreachable
from sync.fleet.mirror import Mirrored
from sync.fleet.mirror import mirror as copy
from sync.stores.catalog import open_store, writing_to


@click.command()
@click.argument("source")
@click.argument("target")
@root_option
@reading
@click.option("--work", type=click.Path(path_type=Path), help="For files on their way.  [default: in the user's cache]")
@click.option("--check", is_flag=True, help="Read what TARGET has already, too, and replace what is damaged.")
@json_option
@quiet_option
def mirror(
    source: str,
    target: str,
    root: Path | None,
    token_file: str,
    ca_file: str,
    work: Path | None,
    check: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Copy all of SOURCE into TARGET, verified; devices may poll TARGET meanwhile. Cut short, it is gone on with."""
    provisioned = root_bytes(root)

    async def run() -> Mirrored:
        origin = open_store(source, token_file=token_file, ca_file=ca_file)
        try:
            async with writing_to(target) as destination:
                return await copy(
                    origin,
                    destination,
                    now=lambda: datetime.now(UTC),
                    spool=work or _cache(),
                    root=provisioned,
                    check=check,
                    progress=shown(quiet=quiet or json),
                )
        finally:
            await origin.close()

    done = wait(run())
    if json:
        print_json(_as_json(done))
    else:
        _tell(source, target, done, proved=root is not None)
    if done.ok:
        return 0
    silent = all(isinstance(fault.error, Unreachable | TooSlow) for fault in done.faults.found)
    return UNREACHABLE if silent else FAILED_CHECK


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "edge-sync" / "mirror"


def _tell(source: str, target: str, done: Mirrored, *, proved: bool) -> None:
    print_faults(done.faults)
    if not proved:
        warn("note: the store's own first root was believed; `--root` proves that it is yours")
    if not done.ok:
        say(f"{target}: stays at what it was: {counted(done.faults.count)} at {source}")
        return
    if not done.smooth:
        warn(
            "note: keys were taken away more than once since the last run; devices that polled at its end may try again"
        )
    copied = f"{done.blobs} files ({say_size(done.size)}), {done.documents} documents, {done.metadata} of metadata"
    say(f"{target}: at version {done.version}: copied {copied}; {done.blobs_there} files were there")


def _as_json(done: Mirrored) -> dict[str, object]:
    return {
        "ok": done.ok,
        "faults": faults_as_json(done.faults),
        "fault_count": done.faults.count,
        "timestamp": done.version,
        "current": done.current,
        "smooth": done.smooth,
        "copied": {
            "blobs": done.blobs,
            "bytes": done.size,
            "documents": done.documents,
            "metadata": done.metadata,
        },
        "blobs_there": done.blobs_there,
    }
