"""What polling costs a device, over HTTP on the loopback: 20 releases, 20 groups, and documents of a usual length, condensed.

`pytest -s` prints the figures: requests, bytes of the bodies, and bytes of the whole exchange with its headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from sync.domain.digests import digest_of
from sync.domain.layout import manifest_name, rollout_name
from sync.domain.ports import WriteStore
from sync.domain.release import FORMAT, File, Manifest, SignatureDoc, TensorDoc, Variant, encode_manifest
from sync.domain.rollout import FORMAT as ROLLOUT_FORMAT
from sync.domain.rollout import Candidate, ModelRollout, Rollout, encode
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.fleet.sign.repository import BINS
from sync.stores.condensed import CondensedReads, CondensedWrites
from sync.stores.http import HttpStore
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.fakes.sync.wire import Wire, wire_to
from tests.unit.sync.trust.world import World

MAX_IDLE_BYTES, MAX_FIRST_BYTES, MAX_CHANGE_BYTES = 400, 3_000, 1_500
"""Without headers."""


def manifest(version: int) -> bytes:
    files = tuple(
        File(path, digest_of(f"{version} {path}".encode()), size, kind)
        for path, size, kind in (
            ("model.tflite", 4_030_304, "application/vnd.edge.tflite"),
            ("labels.txt", 10_484, "text/plain"),
            ("golden.npz", 160_000, "application/octet-stream"),
        )
    )
    signature = SignatureDoc(
        (TensorDoc("image", "uint8", (-1, 224, 224, 3)),), (TensorDoc("scores", "uint8", (-1, 1000)),)
    )
    variant = Variant("cpu-int8", files, {"accel": ("cpu",)}, 10, 40)
    return encode_manifest(
        Manifest(FORMAT, "detector", version, version, (variant,), created="2026-11-20T10:00:00Z", signature=signature)
    )


def rollout(percent: float, group: str = "group-07") -> bytes:
    candidate = Candidate(17, "r-2026-11-20-1", "running", percent, ("canary",), "22:00-05:00")
    return encode(Rollout(ROLLOUT_FORMAT, group, int(percent), {"detector": ModelRollout(16, candidate)}))


@dataclass(slots=True)
class Origin:
    """A static web server with tags; `bodies`: (path, bytes) of every answer."""

    port: int
    bodies: list[tuple[str, int]]


class Published(World):
    """As `edge-sync` publishes."""

    def repository(self, keys: KeyRing | None = None, store: WriteStore | None = None) -> Repository:
        return Repository(CondensedWrites(store or self.store), keys or self.keys, now=lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return Published(tmp_path)


@pytest.fixture
async def origin(world: World) -> AsyncIterator[Origin]:
    bodies: list[tuple[str, int]] = []

    async def answer(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/")
        data = world.store.objects.get(path)
        tag = f'"{digest_of(data)[7:23]}"' if data is not None else ""
        if data is None:
            response = web.Response(status=404)
        elif request.headers.get("If-None-Match") == tag:
            response = web.Response(status=304)
        else:
            response = web.Response(body=data, headers={"ETag": tag})
        bodies.append((path, len(data) if data is not None and response.status == 200 else 0))
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = unused_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield Origin(port, bodies)
    await runner.cleanup()


class Meter:
    def __init__(self, origin: Origin, wire: Wire) -> None:
        self._origin, self._wire = origin, wire

    def taken(self, what: str) -> tuple[int, int]:
        bodies, (up, down) = self._origin.bodies[:], self._wire.taken()
        self._origin.bodies.clear()
        requests, size = len(bodies), sum(each for _, each in bodies)
        print(f"{what}: {requests} requests, {size} B of bodies; {up} B up and {down} B down with headers")
        return requests, size


async def costs(world: World, origin: Origin, place: Path, count: int = 20) -> dict[str, tuple[int, int]]:
    """Requests and bytes of bodies, by what a device does."""
    change = Transaction()
    for number in range(1, count + 1):
        change.put("releases", manifest_name("detector", number), manifest(number))
        change.put("rollouts", rollout_name(f"group-{number:02}"), rollout(0.0, f"group-{number:02}"))
    await (await world.opened()).commit(change)
    found = {}
    async with wire_to(origin.port) as wire:
        meter = Meter(origin, wire)
        store = HttpStore(f"http://127.0.0.1:{wire.port}")
        await poll(device(world, store, place))
        found["first poll"] = meter.taken("first poll")
        await store.close()
        store = HttpStore(f"http://127.0.0.1:{wire.port}")
        documents = device(world, store, place)
        await poll(documents)
        found["idle poll of a new process"] = meter.taken("idle poll of a new process")
        await poll(documents)
        found["idle poll"] = meter.taken("idle poll")
        change = Transaction()
        change.put("rollouts", rollout_name("group-07"), rollout(10.0))
        await (await world.opened()).commit(change)
        await poll(documents)
        found["phase change"] = meter.taken("phase change")
        await store.close()
    return found


async def test_a_poll_costs_no_more_than_it_may(origin: Origin, world: World, tmp_path: Path) -> None:
    await world.create(BINS)
    found = await costs(world, origin, tmp_path / "measured")
    assert {what: requests for what, (requests, _) in found.items()} == {
        "first poll": 10,
        "idle poll of a new process": 2,
        "idle poll": 1,
        "phase change": 5,
    }
    assert found["first poll"][1] <= MAX_FIRST_BYTES
    assert found["idle poll of a new process"][1] <= MAX_IDLE_BYTES
    assert found["idle poll"][1] == 0, "the store's tags save the timestamp"
    assert found["phase change"][1] <= MAX_CHANGE_BYTES


async def test_undivided_roles_of_60_documents_cost_two_requests_less_once_and_more_bytes_ever_after(
    origin: Origin, world: World, tmp_path: Path
) -> None:
    await world.create(BINS)
    divided = await costs(world, origin, tmp_path / "divided", count=60)
    world.store.objects.clear()
    world.keys = KeyRing(world.path / "keys-undivided")
    await world.create()
    found = await costs(world, origin, tmp_path / "undivided", count=60)
    assert found["first poll"][0] == divided["first poll"][0] - 2
    assert found["phase change"][1] > divided["phase change"][1]


def device(world: World, web: HttpStore, place: Path) -> SignedDocuments:
    store = CondensedReads(web)
    place.mkdir(exist_ok=True)
    floor = FloorFile(world.files, place / "floor.json")
    return SignedDocuments(
        TrustClient(store, root=world.root, cache=place / "tuf", floor=floor, now=lambda: world.now.timestamp())
    )


async def poll(documents: SignedDocuments) -> None:
    """As the agent does: whose rollout, and which release."""
    await documents.refresh()
    found = (await documents.rollout("group-07")).models["detector"].candidate
    assert found is not None
    await documents.release("detector", found.version)
