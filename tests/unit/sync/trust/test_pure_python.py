"""Devices without the package `cryptography`: everything is verified all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sync.trust.world import MANIFEST, ROLLOUT, World, reads

PROGRAM = """
import asyncio, sys, time
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "cryptography":
            raise ImportError("there is none on this device")

sys.meta_path.insert(0, Blocked())

from sync.agent.files import OsFiles
from sync.domain.errors import SyncError
from sync.stores.directory import DirectoryStore
from sync.trust.client import TrustClient
from sync.trust.floor import FloorFile

place, now = Path(sys.argv[1]), float(sys.argv[2])

async def main():
    client = TrustClient(DirectoryStore(place / "store"), root=(place / "root.json").read_bytes(), cache=place / "tuf",
                         floor=FloorFile(OsFiles(), place / "floor.json"), now=lambda: now)
    begin = time.process_time()
    try:
        await client.refresh()
        data, _ = await client.fetch(sys.argv[3], max_bytes=1000)
        await client.fetch(sys.argv[4], max_bytes=1000)
    except SyncError as error:
        print(error.reason.value)
    else:
        print(data.decode())
    print(f"{time.process_time() - begin:.3f} s", file=sys.stderr)
    assert not any(name.split(".")[0] == "cryptography" for name in sys.modules)

asyncio.run(main())
"""


def device(world: World) -> tuple[str, str]:
    """What a process without `cryptography` reads, and how long it computed."""
    place = world.path / "pure"
    for path, data in world.store.objects.items():
        (place / "store" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "store" / path).write_bytes(data)
    (place / "root.json").write_bytes(world.root)
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", PROGRAM, str(place), str(world.now.timestamp()), ROLLOUT, MANIFEST.format(1)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


async def test_signatures_are_verified_without_it(world: World) -> None:
    first, took = device(world)
    assert first == "rollout 1"
    again, idle = device(world)
    assert again == "rollout 1"
    print(f"first poll {took}, idle poll {idle}")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "rollouts"])
async def test_a_signature_that_is_none_is_refused_without_it_too(world: World, role: str) -> None:
    assert await reads(world.device()[0]) == b"rollout 1"
    path = world.newest(role)
    data = world.store.objects[path]
    at = data.index(b'"sig":"') + 20
    world.store.objects[path] = data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]
    assert device(world)[0] == "trust_signature"
