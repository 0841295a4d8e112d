"""Checks of the disk: room, where things lie, and whether what is remembered can be read. Blocks; changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sync.agent.files import OsFiles
from sync.agent.mounts import IN_MEMORY, MOUNTINFO, Mount, mount_of
from sync.agent.places import Reserve
from sync.agent.words import amount, lasting
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.doctor.look import places_of
from sync.domain.errors import DiskError, DiskFull, DocumentError, OperatorError
from sync.domain.journal import Journal
from sync.trust.floor import FloorFile

LATE_S = 3600.0
"""Reports that have waited for longer are worth a word."""


def check_room(config: Config, journal: Journal | None) -> Finding:
    """Whether an update of what is here would find room: in bytes, and in names."""
    place = nearest(places_of(config).state_dir)
    try:
        found = os.statvfs(place)
    except OSError as error:
        return fail("disk", DiskError(f"{place}: {error.strerror}"))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    reserve = Reserve(config.update.min_free_bytes, config.update.min_free_share).of(total)
    if free < reserve:
        return fail("disk", DiskFull(reserve, free), f"make room on {place}: every update waits for it")
    if found.f_files and not found.f_favail:
        return fail("disk", DiskError(f"{place}: no file can be made: all {found.f_files} are taken"), "remove files")
    states = journal.models.values() if journal is not None else ()
    largest = max((sum(file.size for file in state.active.files) for state in states if state.active), default=0)
    text = f"{amount(free)} of {amount(total)} are free; {amount(reserve)} are always kept free"
    if free < reserve + largest:
        return warn(
            "disk", f"{text}; a version as large as the largest here, {amount(largest)}, would not fit", "make room"
        )
    return ok("disk", text)


def check_places(config: Config) -> Finding:
    """Whether files can be linked and renamed between the directories, and outlive the power."""
    places = places_of(config)
    wanted = (places.state_dir, places.blobs, places.tmp, places.models_dir)
    try:
        text = MOUNTINFO.read_text()
        mounts = {path: mount_of(PurePosixPath(nearest(path).resolve()), text) for path in wanted}
    except OSError as error:
        return warn("places", f"which file systems there are cannot be told: {error.strerror}")
    found = {mount for mount in mounts.values() if mount is not None}
    if len({mount.number for mount in found}) > 1:
        where = ", ".join(f"{path} on {mount.point}" for path, mount in mounts.items() if mount is not None)
        apart = DiskError(f"want all on one file system, got {where}: files cannot be linked between them")
        return fail("places", apart, "put paths.state_dir and paths.models_dir on one file system, mounted once")
    return _of_mount(next(iter(found), None), config.paths.ephemeral)


def _of_mount(mount: Mount | None, ephemeral: bool) -> Finding:
    if mount is None:
        return warn("places", "which file systems there are cannot be told")
    if mount.read_only:
        return fail(
            "places", DiskError(f"{mount.point}: is mounted read-only"), "see the kernel's log: a disk that fails is"
        )
    if mount.kind in IN_MEMORY:
        text = f"{mount.point} is a {mount.kind}: with the power go the models, and what protects from old metadata"
        do = "put paths.state_dir and paths.models_dir on a disk, or set paths.ephemeral"
        return warn("places", text) if ephemeral else fail("places", OperatorError(text), do)
    return ok("places", f"all on {mount.point} ({mount.kind})")


def check_journal(config: Config, journal: Journal | DocumentError | DiskError) -> Iterator[Finding]:
    """journal: as it was read, or why it was not."""
    places = places_of(config)
    if isinstance(journal, DocumentError):
        do = "nothing: at its next start the agent puts it aside, and takes what the server was told last for what runs"
        yield fail("journal", journal, do)
    elif isinstance(journal, DiskError):
        yield fail("journal", journal, "run this as the agent's user, or as root")
    elif not journal.models:
        yield ok("journal", "nothing was installed yet")
    else:
        under_way = sum(state.phase.value != "idle" for state in journal.models.values())
        yield ok("journal", f"{len(journal.models)} models, {under_way} updates under way")
    aside = places.journal.with_name(places.journal.name + ".bad")
    if (found := _changed(aside)) is not None:
        text = f"{aside}: a damaged journal was put aside {lasting(time.time() - found)} ago"
        yield warn("journal", text, "see that the disk is sound; then remove the file")


def check_floor(config: Config, journal: Journal | None) -> tuple[Finding, float]:
    """With the time that is certainly over, in seconds since the epoch; 0 where none is known."""
    path = places_of(config).floor
    file = FloorFile(OsFiles(), path)
    try:
        there = OsFiles().size(path) is not None
    except OSError as error:
        return fail("floor", DiskError(f"{path}: {error.strerror}"), "run this as the agent's user, or as root"), 0.0
    floor = file.load()
    if file.problem:
        return fail("floor", DocumentError(file.problem), "nothing: the next good poll writes it anew"), 0.0
    if not there and journal is not None and journal.models:
        return warn(
            "floor", f"{path}: is not there; older metadata than was seen before would be taken", "see who removed it"
        ), 0.0
    if not there:
        return ok("floor", "nothing was seen yet"), 0.0
    seen = ", ".join(f"{role} {family.versions.get(role, 0)}" for role, family in sorted(floor.families.items()))
    return ok("floor", f"nothing older than root {floor.root}, {seen} is taken"), floor.time


def check_outbox(config: Config) -> Finding:
    directory = places_of(config).outbox
    taker = config.report.url or (f"the broker at {config.mqtt.host}" if config.mqtt.host else "")
    if not taker:
        return ok("outbox", "report.url and mqtt.host are empty: no reports are sent")
    try:
        reports = [entry for entry in os.scandir(directory) if entry.name.endswith(".json")]
        size = sum(entry.stat().st_size for entry in reports)
        oldest_s = time.time() - min((entry.stat().st_mtime for entry in reports), default=time.time())
    except FileNotFoundError:
        return ok("outbox", f"empty; reports go to {taker}")
    except OSError as error:
        return fail("outbox", DiskError(f"{directory}: {error.strerror}"), "run this as the agent's user, or as root")
    if not reports:
        return ok("outbox", f"empty; reports go to {taker}")
    text = f"{len(reports)} reports ({amount(size)}) wait, the oldest for {lasting(oldest_s)}"
    do = f"see that {taker} takes them, and whether the agent runs"
    if len(reports) >= config.report.max_waiting:
        return warn("outbox", f"{text}; of more than {config.report.max_waiting} the oldest are dropped", do)
    return warn("outbox", text, do) if oldest_s > LATE_S else ok("outbox", text)


def nearest(path: Path) -> Path:
    """The path, or what is above it and there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
