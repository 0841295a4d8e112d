"""What polls cost a device and a static store: requests, and bytes on the wire with all headers, beside their aims.

    python -m benchmarks.polls [--rollouts N]... [--server nginx|aiohttp] [--bins N]
                              [--changes N] [--devices N] [--every S]

Rule 1: a real web server on the loopback serves a signed store from a directory; between it and the device a proxy counts
what goes over the wire, both ways. Rule 2: the device's part is the agent's own: the store with its ETags, the trust module,
the planner's reads. TCP's, IP's and TLS's own bytes are not in it. Rule 3: the store has a past: versions that differ from
role to role are longer to write down than those of a store that was just made.
nginx is taken where it is in PATH, else aiohttp's static files; each as it is, and packing JSON (gzip). Aims are for both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.web import aiohttp_server, nginx_server
from sync.agent.files import OsFiles
from sync.agent.polls import PollLimits
from sync.domain.digests import digest_of
from sync.domain.layout import TIMESTAMP, manifest_name, rollout_name
from sync.domain.ports import ReadStore
from sync.domain.release import FORMAT, File, Manifest, SignatureDoc, TensorDoc, Variant, encode_manifest
from sync.domain.rollout import FORMAT as ROLLOUT_FORMAT
from sync.domain.rollout import Candidate, ModelRollout, Rollout, encode
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.fleet.sign.repository import BINS
from sync.stores.catalog import open_for_device, open_for_writing
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.fakes.sync.wire import wire_to

ROLLOUTS = (5, 50, 500)
MANY, MANY_BINS, DEFAULT_BINS = 500, 64, 1 << BINS["rollouts"]
"""As `keys init` has them, and as its help says of large stores."""
CHANGES = 200
"""Before the first poll."""
DEVICES = 1_000_000
IDLE_AIM, FIRST_AIM, CHANGE_AIM = 400, 8_000, 4_000
DAY_S = 86_400.0
GROUP, OTHER, MODEL, VERSION = "group-0001", "group-0002", "detector", 3


@dataclass(frozen=True)
class Cost:
    """Of one poll: requests, and bytes to the server and from it. `aim`: the most of `both`, 0 for none."""

    what: str
    requests: int
    up: int
    down: int
    aim: int = 0

    @property
    def both(self) -> int:
        return self.up + self.down

    @property
    def met(self) -> bool:
        return not self.aim or self.both <= self.aim


class Fleet:
    """A store with as many groups, each with its rollout, and as many releases; and one device of a group."""

    def __init__(self, place: Path, count: int, bins: int) -> None:
        self._place, self._count, self._bits = place, count, bins.bit_length() - 1
        self.directory = place / "store"
        self._keys = KeyRing(place / "keys")
        self._store = open_for_writing(str(self.directory))
        self._root = b""
        self._devices = self._commits = 0

    async def create(self) -> None:
        for role in ROLES.values():
            await asyncio.to_thread(self._keys.make, role)
        self._root = await Repository(self._store, self._keys).create(bins=dict.fromkeys(BINS, self._bits))
        change = Transaction()
        for number in range(1, self._count + 1):
            change.put("releases", manifest_name(MODEL, number), manifest(number))
            change.put("rollouts", rollout_name(f"group-{number:04}"), rollout(f"group-{number:04}", 0))
        await self._commit(change)

    async def age(self, changes: int) -> None:
        """So many phases of rollouts of any group, and a release for every eighth."""
        chance = random.Random(changes)
        for number in range(1, changes + 1):
            change = Transaction()
            group = f"group-{chance.randint(1, self._count):04}"
            change.put("rollouts", rollout_name(group), rollout(group, self.percent()))
            if number % 8 == 0:
                version = self._count + number
                change.put("releases", manifest_name(MODEL, version), manifest(version))
            await self._commit(change)

    async def widen(self, group: str, percent: float) -> None:
        """The next phase of a group's rollout."""
        change = Transaction()
        change.put("rollouts", rollout_name(group), rollout(group, percent))
        await self._commit(change)

    async def refresh(self) -> None:
        """The timestamp, signed anew."""
        await self._commit(Transaction())

    def percent(self) -> float:
        """Another one each time."""
        return float(self._commits % 100)

    def device(self, url: str) -> tuple[ReadStore, SignedDocuments]:
        """A new one."""
        self._devices += 1
        place = self._place / f"device-{self._devices}"
        place.mkdir()
        store = open_for_device(url)
        floor = FloorFile(OsFiles(), place / "floor.json")
        return store, SignedDocuments(TrustClient(store, root=self._root, cache=place / "tuf", floor=floor))

    async def _commit(self, change: Transaction) -> None:
        repository = Repository(self._store, self._keys)
        await repository.open()
        await repository.commit(change)
        # Web servers know a file by the second of its writing, and by its size.
        self._commits += 1
        written = time.time() - DAY_S + self._commits
        os.utime(self.directory / TIMESTAMP, (written, written))


def manifest(version: int) -> bytes:
    """Of the length that a picture classifier's has."""
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
        Manifest(FORMAT, MODEL, version, version, (variant,), created="2026-11-20T10:00:00Z", signature=signature)
    )


def rollout(group: str, percent: float) -> bytes:
    candidate = Candidate(VERSION, "r-2026-11-20-1", "running", percent, ("canary",), "22:00-05:00")
    return encode(Rollout(ROLLOUT_FORMAT, group, int(percent), {MODEL: ModelRollout(VERSION - 1, candidate)}))


async def poll(documents: SignedDocuments) -> None:
    """As the planner does: whose rollout, and which release."""
    await documents.refresh()
    found = (await documents.rollout(GROUP)).models[MODEL].candidate
    assert found is not None
    await documents.release(MODEL, found.version)


async def measure(fleet: Fleet, port: int) -> list[Cost]:
    costs = []
    async with wire_to(port) as wire:
        url = f"http://127.0.0.1:{wire.port}"
        store, documents = fleet.device(url)

        async def cost(what: str, aim: int = 0) -> None:
            wire.taken()
            before = wire.requests
            await poll(documents)
            up, down = wire.taken()
            costs.append(Cost(what, wire.requests - before, up, down, aim))

        await cost("first poll", FIRST_AIM)
        await cost("idle poll", IDLE_AIM)
        await fleet.widen(GROUP, fleet.percent())
        await cost("phase change", CHANGE_AIM)
        await fleet.widen(OTHER, fleet.percent())
        await cost("another group's phase change")
        await fleet.refresh()
        await cost("timestamp signed anew")
        await store.close()
    return costs


def main() -> int:
    options = _options()
    missed = 0
    for count in options.rollouts or ROLLOUTS:
        with tempfile.TemporaryDirectory() as scratch:
            missed += asyncio.run(_measured(Path(scratch), count, options))
    return 1 if missed else 0


async def _measured(scratch: Path, count: int, options: argparse.Namespace) -> int:
    """How many aims were missed."""
    bins = options.bins or (DEFAULT_BINS if count <= MANY else MANY_BINS)
    fleet = Fleet(scratch, count, bins)
    await fleet.create()
    await fleet.age(options.changes)
    missed = 0
    for packed in (False, True):
        async with serving(options.server, fleet.directory, packed=packed) as (server, port):
            costs = await measure(fleet, port)
        print(f"\n{count} rollouts and {count} releases in {bins} bins, {server}{', packed' if packed else ''}")
        print(f"{'poll':38} {'requests':>8} {'bytes up':>9} {'down':>7} {'both':>7} {'aim':>7}")
        for cost in costs:
            missed += not _print(cost)
        _print_fleet(costs, options.devices, options.every)
    return missed


def _print(cost: Cost) -> bool:
    """Whether it is within its aim."""
    aim = f"≤{cost.aim:6,}" if cost.aim else ""
    figures = f"{cost.requests:8} {cost.up:9,} {cost.down:7,} {cost.both:7,} {aim:>7}"
    print(f"{cost.what:38} {figures}{'' if cost.met else ' MISSED'}", flush=True)
    return cost.met


def _print_fleet(costs: list[Cost], devices: int, every_s: float) -> None:
    """What a store serves to so many devices on a day without news, and what one more change costs it."""
    first, idle, own, others = costs[0], costs[1], costs[-3], costs[-2]
    polls_per_s = devices / every_s
    gb_a_day = polls_per_s * DAY_S * idle.both / 1e9
    print(
        f"{devices:,} devices that poll every {every_s:g} s: {polls_per_s * idle.requests:,.0f} requests/s, "
        f"{polls_per_s * idle.both * 8 / 1e6:.1f} Mbit/s, {gb_a_day:.1f} GB a day (answers: "
        f"{polls_per_s * DAY_S * idle.down / 1e9:.1f} GB)"
    )
    news = [f"{what} {devices * cost.both / 1e9:.1f} GB" for what, cost in (
        ("a change of their own rollout", own), ("of another one", others), ("their first polls", first),
    )]  # fmt: skip
    print(f"  more, once: {', '.join(news)}")


@asynccontextmanager
async def serving(server: str, directory: Path, *, packed: bool) -> AsyncIterator[tuple[str, int]]:
    """The server's name, and its port."""
    program = shutil.which("nginx") if server != "aiohttp" else None
    if program is None and server == "nginx":
        raise SystemExit("nginx: want it in PATH")
    if program is not None:
        async with nginx_server(program, directory, packed=packed) as port:
            yield "nginx", port
    else:
        async with aiohttp_server(directory, packed=packed) as port:
            yield "aiohttp", port


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", action="append", type=int, metavar="N", help="in the store; may be repeated")
    parser.add_argument("--server", choices=("nginx", "aiohttp"), default="", help="the web server")
    parser.add_argument("--bins", type=int, default=0, help="parts of the lists, a power of two")
    parser.add_argument("--changes", type=int, default=CHANGES, metavar="N", help="before the first poll")
    parser.add_argument("--devices", type=int, default=DEVICES, help="of the fleet")
    parser.add_argument("--every", type=float, default=PollLimits().poll_s, metavar="S", help="seconds between polls")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
