"""`edge-sync verify`: is a store whole, and for how long will its signatures hold?"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from sync.agent.files import OsFiles
from sync.cli.options import json_option, quiet_option, reading, root_bytes, root_option
from sync.cli.output import counted, faults_as_json, plain, print_faults, print_json, say, warn
from sync.cli.progress import shown
from sync.cli.root import FAILED_CHECK, UNREACHABLE, wait
from sync.cli.units import duration, say_duration, say_size
from sync.domain.layout import metadata_path
from sync.domain.ports import ReadStore
from sync.fleet.verify import Verified
from sync.fleet.verify import verify as walk
from sync.stores.catalog import open_store
from sync.stores.condensed import CondensedReads
from sync.trust.client import TrustClient, TrustLimits
from sync.trust.floor import FloorFile


@click.command()
@click.argument("url")
@root_option
@reading
@click.option("--soon", type=duration(), help="Warn of signatures that end within this.  [default: by role]")
@click.option("--no-blobs", is_flag=True, help="Leave the files themselves out: quick, and proves less.")
@json_option
@quiet_option
def verify(
    url: str,
    root: Path | None,
    token_file: str,
    ca_file: str,
    soon: float | None,
    no_blobs: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Walk all of the store at URL as a device would: signatures, documents, and every file's hash."""
    provisioned = root_bytes(root)

    async def work() -> Verified:
        store = CondensedReads(open_store(url, token_file=token_file, ca_file=ca_file), compared=True)
        with tempfile.TemporaryDirectory(prefix="edge-sync-") as cache:
            try:
                return await walk(
                    store,
                    now=datetime.now(UTC),
                    first_root=provisioned,
                    as_client=lambda: _as_client(store, provisioned, Path(cache)),
                    soon=timedelta(seconds=soon) if soon is not None else None,
                    blobs=not no_blobs,
                    progress=shown(quiet=quiet or json),
                )
            finally:
                await store.close()

    done = wait(work())
    if json:
        print_json(_as_json(url, done, proved=root is not None))
    else:
        _tell(url, done, proved=root is not None)
    return 0 if done.ok else UNREACHABLE if done.unreachable else FAILED_CHECK


async def _as_client(store: ReadStore, root: bytes | None, cache: Path) -> None:
    first = root or await store.get(metadata_path("root", 1), max_bytes=TrustLimits().root_bytes)
    await TrustClient(
        store, root=first, cache=cache / "tuf", floor=FloorFile(OsFiles(), cache / "floor.json")
    ).refresh()


def _tell(url: str, done: Verified, *, proved: bool) -> None:
    print_faults(done.faults)
    if done.gave_up is not None:
        say(f"FAULT  the rest was not looked at: {done.gave_up.message}")
    for one in done.endings:
        others = f", and {one.more} like it soon after" if one.more else ""
        say(f"WARN   {one.role}: its signature ends {one.at:%Y-%m-%d %H:%M} UTC, in {say_duration(one.left.total_seconds())}{others}")  # fmt: skip
    if not proved:
        warn("note: the store's own first root was believed; `--root` proves that it is yours")
    number = done.faults.count + (done.gave_up is not None)
    say(f"{url}: {len(done.versions)} roles, {done.documents} documents, {done.blobs} blobs, {say_size(done.size)}: {counted(number)}")  # fmt: skip


def _as_json(url: str, done: Verified, *, proved: bool) -> dict[str, object]:
    return {
        "store": plain(url),
        "ok": done.ok,
        "root_proved": proved,
        "faults": faults_as_json(done.faults),
        "fault_count": done.faults.count,
        "gave_up": done.gave_up.message if done.gave_up is not None else None,
        "warnings": [
            {"role": one.role, "ends": one.at.isoformat(), "left_s": round(one.left.total_seconds()), "more": one.more}
            for one in done.endings
        ],
        "versions": dict(done.versions),
        "documents": done.documents,
        "blobs": done.blobs,
        "bytes": done.size,
    }
