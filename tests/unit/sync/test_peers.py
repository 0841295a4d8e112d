"""Two devices on one network: what one has, the other need not fetch; and nothing of it is there where it is off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sync.agent.limits import UpdateLimits
from sync.agent.status import as_text, tell
from sync.app import Assembled, assemble
from sync.doctor.look import look
from sync.domain.digests import digest_of
from sync.domain.layout import blob_path
from tests.fakes.sync.admin import AdminServer, admin_at
from tests.unit.sync.doctor.device import Device, device
from tests.waiting import until

ON_LOOPBACK = {"network.peers": "use_and_share", "network.peer_interfaces": "127.0.0.1"}
WEIGHTS = b"weights 1"


@asynccontextmanager
async def running(made: Device) -> AsyncIterator[Assembled]:
    assembled = await asyncio.to_thread(assemble, made.config, limits=UpdateLimits(watch_s=0.01))
    try:
        await assembled.start()
        yield assembled
    finally:
        await assembled.close()


@asynccontextmanager
async def another(first: Device, path: Path, **settings: str) -> AsyncIterator[Device]:
    """One that asks the same store."""
    await asyncio.to_thread(path.mkdir)
    socket = Path(first.settings["paths.admin_uds"]).with_name("another.sock")
    async with admin_at(socket, AdminServer(path / "models")) as server:
        made = Device(path, server)
        made.settings |= {
            "device.id": "cam-2",
            "store.url": first.settings["store.url"],
            "store.root": first.settings["store.root"],
            "paths.admin_uds": str(socket),
            **ON_LOOPBACK,
            **settings,
        }
        yield made


async def neighbours(assembled: Assembled) -> None:
    """Until it has found one."""
    peering = assembled.peering
    assert peering is not None
    await until(lambda: peering.known, within_s=20)


def has_reason(assembled: Assembled, reason: str) -> bool:
    models = assembled.report().models
    return "detector" in models and models["detector"].reason == reason


async def test_a_device_gets_a_version_from_its_neighbour_when_the_store_has_lost_the_blob(tmp_path: Path) -> None:
    async with device(tmp_path) as first, another(first, tmp_path / "second") as second:
        first.settings |= ON_LOOPBACK
        (tmp_path / "store" / blob_path(digest_of(WEIGHTS))).unlink()
        async with running(first), running(second) as assembled:
            await neighbours(assembled)
            assert await assembled.agent.once(within_s=30)
            assert (tmp_path / "second/models/detector/1/model.tflite").read_bytes() == WEIGHTS
            assert assembled.report().last.bytes_peer == len(WEIGHTS)


async def test_a_version_that_is_not_to_be_shared_is_neither_given_nor_asked_for(tmp_path: Path) -> None:
    async with device(tmp_path) as first, another(first, tmp_path / "second") as second:
        first.settings |= ON_LOOPBACK
        await first.release(2, b"secret weights", share=False)
        await first.roll_out(2)
        assert await first.update()
        (tmp_path / "store" / blob_path(digest_of(b"secret weights"))).unlink()
        async with running(first), running(second) as assembled:
            await neighbours(assembled)
            updating = asyncio.ensure_future(assembled.agent.once(within_s=60))
            await until(lambda: has_reason(assembled, "net_missing"), within_s=30)
            updating.cancel()
            await asyncio.gather(updating, return_exceptions=True)


async def test_a_poisoned_neighbour_costs_nothing_but_the_way_to_the_store(tmp_path: Path) -> None:
    async with device(tmp_path) as first, another(first, tmp_path / "second") as second:
        first.settings |= ON_LOOPBACK
        blob = tmp_path / "state" / "blobs" / digest_of(WEIGHTS).removeprefix("sha256:")
        blob.unlink()
        blob.write_bytes(WEIGHTS[:-1] + b"2")
        async with running(first), running(second) as assembled:
            await neighbours(assembled)
            assert await assembled.agent.once(within_s=30)
            last = assembled.report().last
            assert (last.bytes_peer, last.bytes_full) == (0, len(WEIGHTS))
            await assembled.agent.poll()
            assert "; none seen, 1 banned for giving other bytes" in as_text(tell(await look(second.config)))
            assert (tmp_path / "second/models/detector/1/model.tflite").read_bytes() == WEIGHTS


def test_nothing_of_it_is_imported_unless_it_is_on(tmp_path: Path) -> None:
    program = (
        "import sys; from sync.app import assemble; from sync.config import load_config; import pathlib\n"
        "root = pathlib.Path(sys.argv[1]); (root / 'root.json').write_bytes(b'{}')\n"
        "flags = {'store.url': str(root), 'store.root': str(root / 'root.json'), 'paths.state_dir': str(root / 's'),\n"
        "         'paths.models_dir': str(root / 'm'), 'network.peers': sys.argv[2], 'paths.ephemeral': 'true'}\n"
        "assemble(load_config(None, {}, flags))\n"
        "names = 'zeroconf', 'ifaddr', 'sync.agent.sharing', 'sync.agent.discovery', 'sync.stores.peer'\n"
        "print([name for name in names if name in sys.modules])"
    )
    for mode, imported in (("off", 0), ("use", 5)):
        command = [sys.executable, "-c", program, str(tmp_path), mode]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3])
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("'") == 2 * imported, done.stdout
