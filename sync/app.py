"""The only module that names concrete classes: configuration → an agent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from sync.agent.asked import Asked
from sync.agent.board import Board
from sync.agent.clock import SystemClock
from sync.agent.delivery import HttpDelivery
from sync.agent.download import Downloader, DownloadLimits
from sync.agent.facts import Surroundings, report_of
from sync.agent.fetch import BlobFetch
from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.limits import UpdateLimits, nudge_limits, update_limits
from sync.agent.loop import Agent, LoopLimits
from sync.agent.mounts import in_memory
from sync.agent.outbox import Outbox
from sync.agent.pace import Hours
from sync.agent.peerfetch import PeerFetch
from sync.agent.places import Places, Reserve
from sync.agent.planner import Device, Planner
from sync.agent.reporter import Delivery, Reporter
from sync.agent.room import free_bytes, memory_bytes, memory_mb
from sync.agent.server import AdminSocket
from sync.agent.staging import Staging
from sync.agent.tally import Tally
from sync.agent.updater import Updater
from sync.config import Config
from sync.domain.deltas import Patch
from sync.domain.errors import DiskError, OperatorError, ServerAbsent
from sync.domain.ports import ReadStore
from sync.domain.report import Report
from sync.domain.situation import SeenNeighbours
from sync.stores.catalog import open_for_device
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile, generation_of

if TYPE_CHECKING:
    from sync.agent.messaging import Messaging
    from sync.agent.peering import Peering


@dataclass(slots=True)
class Assembled:
    """`close` ends what holds connections. peering, messaging: None where neighbours, or MQTT, are off."""

    agent: Agent
    journal: JournalFile
    report: Callable[[], Report]
    store: ReadStore
    server: AdminSocket
    lock: int
    peering: Peering | None = None
    messaging: Messaging | None = None

    async def start(self) -> None:
        """What goes on beside the agent. It fails for nothing that an update does not need."""
        with suppress(ServerAbsent):
            await self.server.health()  # reports say which server it is
        if self.messaging is not None:
            self.messaging.start(self.agent)
        if self.peering is not None:
            await self.peering.start()

    async def run(self) -> None:
        """Until cancelled. Raises DiskError where the journal cannot be read or written at the start."""
        await self.start()
        await self.agent.run()

    async def close(self) -> None:
        if self.messaging is not None:
            await self.messaging.close()
        if self.peering is not None:
            await self.peering.close()
        await self.store.close()
        os.close(self.lock)


class _Patches:
    def __init__(self, documents: SignedDocuments) -> None:
        self._documents = documents

    async def of(self, model: str, version: int) -> Sequence[Patch]:
        return await self._documents.patches(model, version)


def assemble(config: Config, *, limits: UpdateLimits | None = None) -> Assembled:
    """Blocks. limits: in the place of those of the configuration. Raises OperatorError, DiskError; while another agent uses the
    directory too."""
    files, clock = OsFiles(), SystemClock()
    places, root = _prepared(config, files)
    lock = _claim(places.state_dir)
    store = open_for_device(config.store.url, token_file=config.store.token_file, ca_file=config.store.ca_file)
    journal = JournalFile(files, places.journal, places.models_dir)
    journal.load()
    floor = FloorFile(files, places.floor)
    trust = TrustClient(store, root=root, cache=places.state_dir / "tuf", floor=floor, now=clock.now)
    peering, peers = _peering(config, files, places, clock, journal) if config.network.peers != "off" else (None, None)
    fetch = BlobFetch(files, places, _downloader(config, files, places, clock), lambda digest, share: [store], peers)
    device = Device(config.device.id, config.device.group, frozenset(config.device.rings), config.device.accelerators)

    tally = Tally(lambda: (fetch.bytes_full, fetch.bytes_delta, fetch.bytes_peer), clock.monotonic)
    server = AdminSocket(Path(config.paths.admin_uds))
    around = _around(files, places, trust, tally, server)

    def report() -> Report:
        return report_of(device, journal.value, clock.now(), around())

    asked = Asked(clock, lambda: trust.versions.get("timestamp") or generation_of(floor.load()), nudge_limits(config))
    messaging = _messaging(config, files, places, clock, journal, asked)
    documents = SignedDocuments(trust)
    staging = Staging(
        files, places, fetch, _Patches(documents), Reserve(config.update.min_free_bytes, config.update.min_free_share)
    )
    agent = Agent(
        documents=documents,
        planner=Planner(device, documents, memory_mb=memory_mb, now=clock.now, local=_local),
        updater=_updater(config, files, places, clock, journal, staging, server, tally, limits),
        staging=staging,
        reporter=_reporter(config, files, places, messaging),
        journal=lambda: journal.value,
        report=report,
        clock=clock,
        board=_board(files, places, clock, trust, peering, messaging),
        limits=_loop_limits(config),
        asked=asked,
    )
    return Assembled(agent, journal, report, store, server, lock, peering, messaging)


def _prepared(config: Config, files: OsFiles) -> tuple[Places, bytes]:
    """Directories that are there, and the root that the store is trusted by. Raises OperatorError."""
    places = Places(Path(config.paths.state_dir), Path(config.paths.models_dir))
    if not config.paths.ephemeral and (kind := in_memory(places.state_dir)):
        wanted = (
            "want it on a disk; with paths.ephemeral the agent takes it, and forgets with the power what it has seen"
        )
        raise OperatorError(f"paths.state_dir: {places.state_dir} is on a {kind}: {wanted}")
    try:
        files.make(places.state_dir)
        files.make(places.models_dir)
        return places, Path(config.store.root).read_bytes()
    except OSError as error:
        raise OperatorError(f"{error.filename}: {error.strerror}") from None


def _downloader(config: Config, files: OsFiles, places: Places, clock: SystemClock) -> Downloader:
    network = config.network
    limits = DownloadLimits(limit_Bps=network.limit_Bps, stall_s=network.stall_s, source_s=network.source_s)
    return Downloader(files, places, clock, limits, hours=Hours(network.window, _local))


def _updater(
    config: Config,
    files: OsFiles,
    places: Places,
    clock: SystemClock,
    journal: JournalFile,
    staging: Staging,
    server: AdminSocket,
    tally: Tally,
    limits: UpdateLimits | None,
) -> Updater:
    return Updater(
        journal=journal,
        files=files,
        models_dir=places.models_dir,
        stage=staging,
        server=server,
        clock=clock,
        changed=tally.changed,
        limits=limits or update_limits(config),
    )


def _around(
    files: OsFiles, places: Places, trust: TrustClient, tally: Tally, server: AdminSocket
) -> Callable[[], Surroundings]:
    program = _version()

    def around() -> Surroundings:
        return Surroundings(
            clock_ok=trust.clock_ok,
            meta=trust.versions,
            last=tally.last,
            disk_free=free_bytes(files, places.state_dir),
            mem_avail=memory_bytes() or 0,
            agent=program,
            edge=server.version,
        )

    return around


def _version() -> str:
    """Of this program; "" where it was not installed."""
    try:
        return version("edge-serving")
    except PackageNotFoundError:
        return ""


def _board(
    files: OsFiles,
    places: Places,
    clock: SystemClock,
    trust: TrustClient,
    peering: Peering | None,
    messaging: Messaging | None,
) -> Board:
    neighbours = (lambda: SeenNeighbours(peering.known, peering.banned)) if peering is not None else None
    broker = (lambda: messaging.broker.seen) if messaging is not None else None
    return Board(files, places.situation, clock, lambda: (trust.signed_until, trust.clock_ok), neighbours, broker)


def _reporter(config: Config, files: OsFiles, places: Places, messaging: Messaging | None) -> Reporter:
    """By HTTP where there is a collector, and then the broker is shown the latest alone; else by the broker."""
    told, broker = config.report, messaging.broker if messaging is not None else None
    outbox = Outbox(files, places.outbox, told.max_waiting)
    by_http = HttpDelivery(told.url, told.token_file, timeout_s=told.timeout_s) if told.url else None
    show = broker.show if broker is not None and by_http is not None else None
    delivery: Delivery | None = by_http or broker
    made = Reporter(outbox, delivery, retry_s=told.retry_s, max_retry_s=told.max_retry_s, show=show)
    if broker is not None and by_http is None:
        broker.on_connect = made.again
    return made


def _messaging(
    config: Config, files: OsFiles, places: Places, clock: SystemClock, journal: JournalFile, asked: Asked
) -> Messaging | None:
    if not config.mqtt.host:
        return None
    from sync.agent.messaging import Messaging

    return Messaging(config, files, places, clock, lambda: journal.value, asked)


def _loop_limits(config: Config) -> LoopLimits:
    poll = config.poll
    return LoopLimits(
        poll_s=poll.every_s, jitter=poll.jitter, max_poll_s=poll.max_s, heartbeat_s=config.report.heartbeat_s
    )


def _peering(
    config: Config, files: OsFiles, places: Places, clock: SystemClock, journal: JournalFile
) -> tuple[Peering, PeerFetch]:
    from sync.agent.neighbours import Neighbours
    from sync.agent.peering import Peering, busy_of, shared_of
    from sync.agent.sharing import Sharing, SharingLimits
    from sync.stores.peer import PeerStore

    network = config.network
    loopback = any(each == "lo" or each.startswith("127.") for each in network.peer_interfaces)
    neighbours = Neighbours(lambda address: PeerStore(address.host, address.port), clock, loopback=loopback)
    limits = DownloadLimits(max_breaks=0, max_requests=8, max_pause_s=1.0, limit_Bps=network.peer_limit_Bps)
    downloader = Downloader(files, places, clock, limits, hours=Hours(network.window, _local), suffix="peer")
    sharing = None
    if network.peers == "use_and_share":
        sharing = Sharing(
            files,
            places,
            lambda: shared_of(journal.value),
            clock,
            busy=lambda: busy_of(journal.value),
            loopback=loopback,
            limits=SharingLimits(limit_Bps=network.peer_limit_Bps),
        )
    peering = Peering(neighbours, sharing, network.peer_interfaces, network.peer_port)
    return peering, PeerFetch(files, places, downloader, neighbours)


def _local() -> datetime:
    return datetime.now().astimezone()


def _claim(state_dir: Path) -> int:
    """The lock of the one agent. Raises OperatorError, DiskError."""
    try:
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskError(f"{state_dir}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise OperatorError(f"{state_dir}: another agent is at work there") from None
    return handle
