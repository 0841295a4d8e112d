"""What is found on the device, by somebody who looks and changes nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sync.agent.board import is_running, read_situation
from sync.agent.files import OsFiles
from sync.agent.here import bytes_here
from sync.agent.journal import JournalFile
from sync.agent.outbox import Outbox
from sync.agent.places import Places
from sync.agent.server import AdminSocket
from sync.agent.view import View
from sync.config import Config
from sync.domain.errors import ServerAbsent
from sync.domain.journal import Journal
from sync.domain.ports import Files, ServerHealth

SERVER_TIMEOUT_S = 5.0


async def look(config: Config) -> View:
    """Raises DiskError, DocumentError where the journal cannot be read."""
    files, places = OsFiles(), places_of(config)
    server = await ask_server(config)
    return await asyncio.to_thread(_look, files, places, server, config.network.peers)


def places_of(config: Config) -> Places:
    return Places(Path(config.paths.state_dir), Path(config.paths.models_dir))


async def ask_server(config: Config) -> ServerHealth | str:
    """What it says, or why it does not."""
    try:
        return await AdminSocket(Path(config.paths.admin_uds), timeout_s=SERVER_TIMEOUT_S).health()
    except ServerAbsent as error:
        return error.message


def _look(files: Files, places: Places, server: ServerHealth | str, peers: str) -> View:
    journal: Journal = JournalFile(files, places.journal, places.models_dir).peek()
    situation = read_situation(files, places.situation)
    outbox = Outbox(files, places.outbox)
    candidates = {name: state.candidate for name, state in journal.models.items() if state.candidate is not None}
    return View(
        journal=journal,
        now=time.time(),
        situation=situation,
        running=situation is not None and is_running(situation.process),
        server=server,
        here={name: bytes_here(files, places, release) for name, release in candidates.items()},
        waiting_reports=len(outbox),
        refused_reports=outbox.refused(),
        peers=peers,
    )
