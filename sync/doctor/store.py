"""Checks of what is asked over the network: the root document, the store, the clock, the rollout. Changes nothing here.

Rule: the store is asked as the agent asks it, with a copy of the floor, in a directory of its own that is gone afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sync.agent.files import OsFiles
from sync.agent.words import lasting
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.doctor.look import places_of
from sync.domain.errors import DiskError, Missing, Reason, SyncError, TrustError
from sync.stores.catalog import open_for_device
from sync.trust.client import TrustClient, TrustLimits
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from sync.trust.roots import describe_root
from sync.trust.timekeeping import SLACK_S

LIMITS = TrustLimits(request_s=20.0, total_s=60.0)


@dataclass(slots=True)
class Asked:
    """What came of asking the store. `root`: the document's bytes, None where there are none of use."""

    root: bytes | None
    findings: list[Finding]
    error: SyncError | None = None


def check_root(config: Config) -> Asked:
    """Blocks."""
    path = Path(config.store.root)
    do = "copy the operator's root.json there, or set store.root"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Asked(None, [fail("root", Missing(f"{path}: no such file"), do)])
    except OSError as error:
        return Asked(None, [fail("root", DiskError(f"{path}: {error.strerror}"), do)])
    try:
        facts = describe_root(data)
    except TrustError as error:
        return Asked(None, [fail("root", TrustError(f"{path}: {error.message}"), do)])
    ends = datetime.fromtimestamp(facts.ends, UTC)
    text = f"version {facts.version}, {facts.threshold} of {facts.keys} keys, until {ends:%Y-%m-%d}, {facts.digest}"
    findings = [ok("root", f"{text}; it is the operator's if the digest is")]
    if path.stat().st_mode & 0o022:
        findings.append(
            warn("root", f"{path}: others than its owner may replace what this device trusts", "chmod go-w")
        )
    return Asked(data, findings)


async def check_store(config: Config, root: bytes, now: Callable[[], float]) -> Asked:
    """Whether it answers, whether what it says is signed and fresh, and what it says of this device's group."""
    findings: list[Finding] = []
    try:
        async with _client(config, root, now) as client:
            await client.refresh()
            findings.append(_fresh(config, client, now()))
            findings.append(await _rollout(config, SignedDocuments(client)))
    except SyncError as error:
        return Asked(root, [*findings, fail("store", error)], error)
    except OSError as error:
        wrong = DiskError(f"{error.filename or tempfile.gettempdir()}: {error.strerror}")
        return Asked(root, [*findings, fail("store", wrong)], wrong)
    return Asked(root, findings)


@asynccontextmanager
async def _client(config: Config, root: bytes, now: Callable[[], float]) -> AsyncIterator[TrustClient]:
    store = await asyncio.to_thread(
        open_for_device, config.store.url, token_file=config.store.token_file, ca_file=config.store.ca_file
    )
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="edge-sync-doctor-"))
    try:
        await asyncio.to_thread(_copy, places_of(config).floor, scratch / "floor.json")
        floor = FloorFile(OsFiles(), scratch / "floor.json")
        yield TrustClient(store, root=root, cache=scratch / "tuf", floor=floor, now=now, limits=LIMITS)
    finally:
        await store.close()
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Nothing happens where there is none; one that may not be read is told elsewhere."""
    try:
        shutil.copyfile(source, target)
    except OSError:
        target.unlink(missing_ok=True)


def _fresh(config: Config, client: TrustClient, now: float) -> Finding:
    role, end = min(client.ends.items(), key=lambda item: item[1])
    left_s = end - now
    versions = ", ".join(f"{name} {version}" for name, version in client.versions.items())
    text = f"it answers; {versions}; the first signature to end is that of {role}, in {lasting(left_s)}"
    if left_s < config.poll.max_s:
        do = "ask the operator why `edge-sync refresh` does not renew it"
        return warn("store", f"{text}, perhaps before this device asks again", do)
    return ok("store", text)


async def _rollout(config: Config, documents: SignedDocuments) -> Finding:
    group = config.device.group
    try:
        rollout = await documents.rollout(group)
    except Missing:
        text = f"nobody has written a document for the group {group}: nothing is wanted of this device"
        return warn("rollout", text, "see device.group, or ask the operator for a rollout")
    except SyncError as error:
        return fail("rollout", error)
    models = ", ".join(sorted(rollout.models)) or "no model"
    return ok("rollout", f"document {rollout.seq} of the group {group} is about {models}")


def check_clock(error: SyncError | None, floor_time: float, now: float) -> Finding:
    """error: of asking the store. floor_time: a time that is over, in seconds since the epoch; 0 for none known."""
    text = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if floor_time and now < floor_time - SLACK_S:
        seen = datetime.fromtimestamp(floor_time, UTC)
        what = f"{text}: it was {seen:%Y-%m-%d %H:%M} UTC before, by a clock that signed metadata agreed with"
        return fail("clock", TrustError(what, Reason.CLOCK_SUSPECT))
    if error is not None and error.reason is Reason.CLOCK_SUSPECT:
        return fail("clock", TrustError(f"{text}: {error.message}", Reason.CLOCK_SUSPECT))
    if error is None:
        return ok("clock", f"{text}; what is signed is valid by it")
    if floor_time:
        return ok("clock", f"{text}; not before what was signed and seen, {lasting(now - floor_time)} ago")
    return warn("clock", f"{text}; there is nothing signed to compare it with", "see that it is set from the network")
