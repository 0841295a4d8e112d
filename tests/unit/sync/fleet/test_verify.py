"""A walk of the whole store finds every fault, names it, and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sync.domain.errors import Missing, Reason, TrustError, Unreachable
from sync.domain.layout import deltas_name, manifest_name, rollout_name
from sync.domain.ports import ReadStore
from sync.domain.rollout import PINS_FORMAT, Candidate, Pin, Pins, encode
from sync.fleet.faults import MAX_SILENT
from sync.fleet.sign import Transaction
from sync.fleet.verify import Verified, verify
from sync.stores.directory import DirectoryStore
from sync.stores.http import HttpStore
from tests.fakes.sync.origin import Origin, serving
from tests.fakes.sync.static import static_server
from tests.fakes.sync.store import MemoryStore
from tests.unit.sync.fleet.shop import MODEL, NEW, OLD, PATCH, Shop, flip, tree


async def walked(shop: Shop, store: ReadStore | None = None) -> Verified:
    return await verify(store or shop.store, now=shop.now, first_root=shop.root)


def reasons(done: Verified) -> list[Reason]:
    return [fault.error.reason for fault in done.faults.found]


def texts(done: Verified) -> str:
    return "\n".join(map(str, done.faults.found))


async def test_a_whole_store_has_no_fault_and_everything_was_read(shop: Shop) -> None:
    done = await walked(shop)
    assert done.ok, texts(done)
    assert (done.documents, done.blobs, done.size) == (5, 3, len(OLD) + len(NEW) + len(PATCH))
    assert {"root", "timestamp", "snapshot", "targets", "releases", "rollouts", "deltas"} <= done.versions.keys()
    assert {"releases.bin-0", "releases.bin-1", "rollouts.bin-0", "rollouts.bin-1"} <= done.versions.keys()


async def test_behind_a_web_server_it_is_the_same(shop: Shop) -> None:
    await shop.put_blob(b"what nothing names")
    async with static_server(shop.directory, token="sesame") as server:
        store = HttpStore(server.url, token="sesame")
        done = await walked(shop, store)
        await store.close()
    assert done.ok, texts(done)
    wanted = {path for path in tree(shop.directory) if path.startswith(("targets/", "blobs/"))}
    named = {path for path in server.asked if path.startswith(("targets/", "blobs/"))}
    assert wanted - named == {f"blobs/sha256/{shop.blob(b'what nothing names').name}"}
    assert len(named) == 8


@pytest.mark.parametrize(
    ("spoil", "where", "reason"),
    [
        (lambda shop: flip(shop.blob(OLD)), "blobs/", Reason.HASH_MISMATCH),
        (lambda shop: flip(shop.blob(PATCH), 0), "deltas.json", Reason.HASH_MISMATCH),
        (lambda shop: shop.blob(NEW).unlink(), "blobs/", Reason.NET_MISSING),
        (lambda shop: shop.blob(NEW).write_bytes(NEW[:-1]), "blobs/", Reason.HASH_MISMATCH),
        (lambda shop: shop.blob(NEW).write_bytes(NEW + b"x"), "blobs/", Reason.HASH_MISMATCH),
        (lambda shop: flip(shop.target(manifest_name(MODEL, 1))), "manifest.json", Reason.HASH_MISMATCH),
        (lambda shop: shop.target(deltas_name(MODEL, 2)).unlink(), "deltas.json", Reason.NET_MISSING),
        (lambda shop: flip(shop.metadata("timestamp")), "timestamp", Reason.TRUST_SIGNATURE),
        (lambda shop: flip(shop.metadata("snapshot")), "snapshot", Reason.TRUST_SIGNATURE),
        (lambda shop: flip(shop.metadata("targets")), "targets", Reason.TRUST_SIGNATURE),
        (lambda shop: flip(shop.metadata("releases.bin-0")), "releases.bin-0", Reason.TRUST_SIGNATURE),
        (lambda shop: shop.metadata("deltas").unlink(), "deltas", Reason.NET_MISSING),
        (lambda shop: shop.metadata("rollouts").write_bytes(b"{}"), "rollouts", Reason.TRUST_SIGNATURE),
        (lambda shop: shop.metadata("rollouts").write_bytes(b"x" * 5_000_001), "rollouts", Reason.NET_REFUSED),
    ],
)  # fmt: skip
async def test_one_thing_that_is_wrong_is_one_fault_that_names_it(
    shop: Shop, spoil: Callable[[Shop], None], where: str, reason: Reason
) -> None:
    spoil(shop)
    done = await walked(shop)
    assert not done.ok
    assert reason in reasons(done)
    assert where in texts(done)


async def test_everything_that_is_wrong_is_found_in_one_walk(shop: Shop) -> None:
    flip(shop.blob(OLD))
    shop.blob(NEW).unlink()
    shop.target(rollout_name("line-3")).write_bytes(b"{}")
    shop.metadata("deltas").unlink()
    done = await walked(shop)
    assert sorted(map(str, reasons(done))) == sorted(
        map(str, [Reason.HASH_MISMATCH, Reason.NET_MISSING, Reason.HASH_MISMATCH, Reason.NET_MISSING])
    ), texts(done)


async def test_another_root_than_the_devices_is_a_fault(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    await other.create()
    done = await verify(shop.store, now=shop.now, first_root=other.root)
    assert Reason.TRUST_SIGNATURE in reasons(done)


async def test_a_root_that_its_forerunner_did_not_sign_ends_the_chain(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    await other.create()
    await other.rotate("timestamp")
    (shop.directory / "metadata/2.root.json").write_bytes((other.directory / "metadata/2.root.json").read_bytes())
    done = await walked(shop)
    assert [fault.where for fault in done.faults.found] == ["root"]
    assert done.blobs == 3, "the rest was looked at all the same"


async def test_rotated_keys_are_followed(shop: Shop) -> None:
    for role in ("timestamp", "root", "releases"):
        await shop.rotate(role)
    done = await walked(shop)
    assert done.ok, texts(done)
    assert done.versions["root"] == 4


async def test_what_has_expired_is_a_fault_and_what_soon_will_a_warning(shop: Shop) -> None:
    shop.later(hours=20)
    done = await walked(shop)
    assert done.ok
    assert [(one.role, one.left) for one in done.endings] == [("timestamp", timedelta(hours=4))]
    shop.later(hours=36)
    done = await walked(shop)
    assert [(fault.where, fault.error.reason) for fault in done.faults.found] == [("timestamp", Reason.STALE_METADATA)]
    assert [(one.role.partition(".")[0], one.more) for one in done.endings] == [("deltas", 0), ("rollouts", 2)]
    shop.later(days=4)
    assert set(reasons(await walked(shop))) == {Reason.STALE_METADATA}, "what `edge-sync refresh` keeps from ending"
    shop.later(days=100)
    assert Reason.TRUST_EXPIRED in reasons(await walked(shop))


async def test_how_soon_is_soon_can_be_said(shop: Shop) -> None:
    done = await verify(shop.store, now=shop.now, soon=timedelta(days=100))
    assert [one.role.partition(".")[0] for one in done.endings] == ["timestamp", "deltas", "rollouts", "snapshot", "releases"]  # fmt: skip


async def test_a_rollout_to_what_was_never_released_is_a_fault(shop: Shop) -> None:
    await shop.roll_out(Candidate(7, "r-2", "running"), seq=2)
    await shop.sign("rollouts", shop.pins_name, encode(Pins(PINS_FORMAT, 2, {"cam-1": {"gate": Pin(3, 2)}})))
    done = await walked(shop)
    assert "wants detector@7, which nobody has released" in texts(done)
    assert "cam-1: wants gate@3, which nobody has released" in texts(done)


async def test_a_document_of_another_thing_than_its_name_says_is_a_fault(shop: Shop) -> None:
    await shop.sign("releases", manifest_name(MODEL, 9), shop.target(manifest_name(MODEL, 1)).read_bytes())
    await shop.sign("rollouts", rollout_name("line-4"), b'{"format": "edge-rollout/2"}')
    done = await walked(shop)
    assert "models/detector/9/manifest.json: is the document models/detector/1/manifest.json" in texts(done)
    assert "rollouts/line-4.json" in texts(done)
    assert set(reasons(done)) == {Reason.INCOMPATIBLE}


async def test_a_patch_for_a_file_that_its_release_does_not_have_is_a_fault(shop: Shop) -> None:
    await shop.sign("deltas", deltas_name(MODEL, 2), None)
    document = json.loads((await shop_deltas(shop)).decode())
    document["patches"][0]["path"] = "other.tflite"
    await shop.sign("deltas", deltas_name(MODEL, 2), json.dumps(document).encode())
    assert "a patch makes cpu/other.tflite other than the release has it" in texts(await walked(shop))
    await shop.sign("deltas", deltas_name(MODEL, 3), json.dumps(document).encode())
    assert "patches for what nobody has released" in texts(await walked(shop))


async def shop_deltas(shop: Shop) -> bytes:
    return shop.target(deltas_name(MODEL, 2)).read_bytes()


async def test_a_role_that_signs_what_it_may_not_speak_of_is_a_fault(shop: Shop) -> None:
    repository = shop.repository()
    await repository.open()
    state = repository.state
    targets = (await state.load("deltas")).targets
    (patches,) = targets.values()
    patches.path = "models/detector/66/manifest.json"
    targets[patches.path] = patches
    await repository.commit(Transaction(renew={"deltas"}))
    assert "deltas has signed it, and may not speak of it" in texts(await walked(shop))


async def test_whatever_the_devices_own_client_refuses_is_a_fault(shop: Shop) -> None:
    async def refuses() -> None:
        raise TrustError("not for me")

    done = await verify(shop.store, now=shop.now, as_client=refuses)
    assert texts(done) == "a device's client: not for me"


HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff\xfe",
    "deep": b"[" * 10_000,
    "another type": b'{"signed": {"_type": "mirrors"}, "signatures": []}',
    "no members": b'{"signed": {}, "signatures": []}',
    "a list": b"[1, 2]",
    "a huge number": b'{"signed": {"_type": "snapshot", "version": ' + b"9" * 5000 + b'}, "signatures": []}',
    "signatures of no kind": b'{"signed": {"_type": "targets"}, "signatures": {"a": 1}}',
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "releases", "releases.bin-1", "deltas"])
async def test_whatever_lies_in_the_place_of_metadata_is_a_fault_and_no_crash(shop: Shop, role: str, what: str) -> None:
    path = shop.directory / "metadata/2.root.json" if role == "root" else shop.metadata(role)
    path.write_bytes(HOSTILE[what])
    done = await walked(shop)
    assert set(reasons(done)) == {Reason.TRUST_SIGNATURE}, texts(done)


async def test_an_empty_place_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        await verify(DirectoryStore(tmp_path), now=Shop(tmp_path).now)


async def test_a_store_that_falls_silent_is_left_soon(shop: Shop) -> None:
    store = MemoryStore(tree(shop.directory))

    async def silent(path: str) -> None:
        if path.startswith(("targets/", "blobs/")):
            raise Unreachable("nobody answers")

    store.hook = silent
    done = await walked(shop, store)
    assert done.gave_up is not None
    assert done.unreachable
    assert done.faults.count == MAX_SILENT


async def test_a_connection_that_breaks_is_gone_on_with(shop: Shop) -> None:
    objects = {f"/{path}": data for path, data in tree(shop.directory).items()}
    breaks = iter(range(2))

    def behave(number: int) -> str:
        path = origin.asked[-1][0]
        return "break:500" if path.endswith(shop.blob(NEW).name) and next(breaks, None) is not None else ""

    origin = Origin(objects, behave)
    async with serving(origin):
        store = HttpStore(origin.url)
        done = await walked(shop, store)
        await store.close()
    assert done.ok, texts(done)
    ranges = [asked for path, asked in origin.asked if path.endswith(shop.blob(NEW).name)]
    assert ranges == ["", "bytes=500-", "bytes=1000-"]


async def test_an_endless_blob_is_cut_off_at_its_length(shop: Shop) -> None:
    objects = {f"/{path}": data for path, data in tree(shop.directory).items()}
    origin = Origin(objects, lambda number: "endless" if "/blobs/" in origin.asked[-1][0] else "")
    async with serving(origin):
        store = HttpStore(origin.url)
        done = await walked(shop, store)
        await store.close()
    assert set(reasons(done)) == {Reason.HASH_MISMATCH}
