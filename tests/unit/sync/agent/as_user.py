"""A process of one of the users of a device: `as_user.py UID GID ROLE BASE [GROUP…]`, started as root with any umask.

Prints what it could do, as JSON: what was tried → "" or the name of the error.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from edge.domain.layout import AspiredFile, parse_aspired
from sync.agent.aspire import write_aspired
from sync.agent.blobs import install_blob
from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.outbox import Outbox
from sync.agent.places import Places
from sync.agent.staging import Fetch, Patches, Staging
from sync.domain.digests import Digest, digest_of
from sync.domain.journal import FileRef, Installed, ModelState

DATA = b"weights"
RELEASE = Installed(1, Digest("sha256:" + "0" * 64), "cpu", (FileRef("sub/model.tflite", digest_of(DATA), len(DATA)),))


def agent(base: Path) -> dict[str, Callable[[], object]]:
    """What an update does, in its order."""
    files, places = OsFiles(), Places(base / "state", base / "models")
    part = places.tmp / "part"
    nobody: Fetch | Patches | None = None
    staging = Staging(files, places, nobody, nobody)  # type: ignore[arg-type]
    journal = JournalFile(files, places.journal, places.models_dir)
    return {
        "make tmp": lambda: files.make(places.tmp),
        "make blobs": lambda: files.make(places.blobs),
        "fetch": lambda: files.write_at(part, 0, DATA),
        "install": lambda: install_blob(files, part, places.blob(digest_of(DATA)), digest_of(DATA), len(DATA)),
        "assemble": lambda: staging.assemble("m", RELEASE),
        "journal": lambda: journal.write({"m": ModelState(active=RELEASE)}),
        "aspire": lambda: write_aspired(files, places.models_dir / "m", AspiredFile(1, (1,), None)),
        "report": lambda: Outbox(files, places.state_dir / "outbox").put(1, b"{}"),
    }


def server(base: Path) -> dict[str, Callable[[], object]]:
    """What it must be able to do, and what it must not."""
    version, state = base / "models/m/1", base / "state"
    return {
        "read aspired": lambda: parse_aspired((base / "models/m/aspired.json").read_bytes()),
        "list": lambda: os.listdir(base / "models"),
        "read model": lambda: (version / "sub/model.tflite").read_bytes(),
        "write model": lambda: (version / "sub/model.tflite").open("r+b"),
        "add a file": lambda: (version / "x").touch(),
        "add a version": lambda: (base / "models/m/2").mkdir(),
        "write aspired": lambda: (base / "models/m/aspired.json").write_bytes(b""),
        "replace aspired": lambda: os.rename(base / "models/m/aspired.json", base / "models/m/old"),
        "write journal": lambda: (state / "state.json").write_bytes(b""),
        "add a report": lambda: (state / "outbox/x").touch(),
    }


def stranger(base: Path) -> dict[str, Callable[[], object]]:
    return {
        "list": lambda: os.listdir(base / "models"),
        "read model": lambda: (base / "models/m/1/sub/model.tflite").read_bytes(),
        "read journal": lambda: (base / "state/state.json").read_bytes(),
        "connect": lambda: connect(base),
    }


def connect(base: Path) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(base / "run/admin.sock"))


def client(base: Path) -> dict[str, Callable[[], object]]:
    return {"connect": lambda: connect(base)}


ROLES: dict[str, Callable[[Path], dict[str, Callable[[], object]]]] = {
    "agent": agent,
    "server": server,
    "stranger": stranger,
    "client": client,
}


def main() -> None:
    uid, gid, role, base = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    asyncio.run(asyncio.sleep(0))  # whatever is imported late is imported now
    tried = ROLES[role](base)
    os.setgroups([int(group) for group in sys.argv[5:]])
    os.setegid(gid)
    os.seteuid(uid)
    found = {}
    for name, work in tried.items():
        try:
            work()
            found[name] = ""
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
