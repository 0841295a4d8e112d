"""What is withdrawn was named by nobody; it is gone with all that belongs to it, and its number is never used again."""

from __future__ import annotations

import msgspec
import pytest

from sync.agent.planner import Device, Planner
from sync.domain.deltas import Deltas, Patch, encode_deltas, parse_deltas
from sync.domain.digests import Digest, digest_of
from sync.domain.errors import DocumentError, Missing, OperatorError
from sync.domain.journal import Bad, Installed, ModelState
from sync.domain.layout import deltas_name, manifest_name, rollout_name
from sync.domain.rollout import PINS_FORMAT, Candidate, Pin, Pins, encode
from sync.fleet.verify import verify
from sync.fleet.versions import read_withdrawn, versions_of
from sync.fleet.withdraw import Withdrawal, withdraw
from sync.trust.documents import SignedDocuments
from tests.unit.sync.fleet.history import History
from tests.unit.sync.fleet.shop import GROUP, MODEL, NEW, OLD, PATCH, Shop, tree
from tests.unit.sync.fleet.site import Site

THIRD, FOURTH = b"third model " * 90, b"fourth model " * 80


@pytest.fixture
async def stocked(shop: Shop) -> Shop:
    """1 is pinned and stable, 2 the candidate; 3 and 4 are named by nobody, and there is a patch from 3 to 4."""
    await shop.release(3, THIRD, patch=b"from 2 to 3", base=NEW)
    await shop.release(4, FOURTH, patch=b"from 3 to 4", base=THIRD)
    return shop


async def run(shop: Shop, *versions: int, keep: int | None = None, dry_run: bool = False) -> Withdrawal:
    repository = shop.repository()
    await repository.open()
    return await withdraw(repository, MODEL, versions, keep=keep, dry_run=dry_run)


async def released(shop: Shop) -> list[int]:
    repository = shop.repository()
    await repository.open()
    return list(await versions_of(repository, MODEL))


async def patches(shop: Shop, version: int) -> list[Digest] | None:
    """Which are signed; None where there is no list."""
    repository = shop.repository()
    await repository.open()
    data = await repository.read("deltas", deltas_name(MODEL, version))
    return None if data is None else [patch.digest for patch in parse_deltas(data).patches]


async def is_whole(shop: Shop) -> bool:
    return (await verify(shop.store, now=shop.now, first_root=shop.root)).ok


async def test_a_version_goes_with_the_patches_to_it_and_from_it(stocked: Shop) -> None:
    done = await run(stocked, 3)
    assert (done.versions, done.left, done.written) == ([3], [4, 2, 1], True)
    assert (done.patches, done.size) == (2, len(THIRD) + len(b"from 2 to 3") + len(b"from 3 to 4"))
    assert await released(stocked) == [4, 2, 1]
    assert (await patches(stocked, 3), await patches(stocked, 4)) == (None, None)
    assert await patches(stocked, 2) == [digest_of(PATCH)]
    assert await is_whole(stocked)


async def test_a_patch_from_a_file_that_another_version_has_too_stays(stocked: Shop) -> None:
    await stocked.release(5, THIRD)
    done = await run(stocked, 3)
    assert (done.patches, done.size) == (1, len(b"from 2 to 3"))
    assert await patches(stocked, 4) == [digest_of(b"from 3 to 4")]
    assert await is_whole(stocked)


async def test_of_a_list_of_patches_only_those_go_that_begin_with_what_is_gone(stocked: Shop) -> None:
    one, two = (
        Patch("cpu", "model.tflite", digest_of(base), digest_of(FOURTH), digest_of(blob), len(blob))
        for base, blob in ((THIRD, b"from 3"), (NEW, b"from 2"))
    )
    await stocked.put_blob(b"from 3")
    await stocked.put_blob(b"from 2")
    await stocked.sign("deltas", deltas_name(MODEL, 4), encode_deltas(Deltas((one, two))))
    await run(stocked, 3)
    assert await patches(stocked, 4) == [two.digest]
    assert await is_whole(stocked)


async def test_what_is_withdrawn_is_garbage_when_no_slow_device_can_be_at_it(stocked: Shop) -> None:
    history = History(stocked)
    await history.live(1)
    await run(stocked, 3)
    await history.live(20)
    await history.swept()
    assert stocked.blob(THIRD).exists()
    await history.live(20)
    await history.swept()
    gone = [blob for blob in (OLD, NEW, PATCH, THIRD, FOURTH, b"from 2 to 3", b"from 3 to 4") if not stocked.blob(blob).exists()]  # fmt: skip
    assert gone == [THIRD, b"from 2 to 3", b"from 3 to 4"]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (1, r"detector@1 is pinned on cam-1, stable in group line-3\Z"),
        (2, r"detector@2 is the candidate of group line-3\Z"),
    ],
)
async def test_what_a_rollout_or_a_pin_names_is_refused_and_nothing_is_written(
    stocked: Shop, version: int, text: str
) -> None:
    before = tree(stocked.directory)
    with pytest.raises(OperatorError, match=text):
        await run(stocked, 3, version)
    assert tree(stocked.directory) == before


@pytest.mark.parametrize("state", ["running", "paused", "done"])
async def test_a_candidate_stays_whatever_its_state_is(stocked: Shop, state: str) -> None:
    candidate = msgspec.convert({"version": 4, "id": "r-9", "state": state, "percent": 0.0}, Candidate)
    await stocked.roll_out(candidate, seq=2)
    with pytest.raises(OperatorError, match=r"detector@4 is the candidate of group line-3"):
        await run(stocked, 4)


async def test_what_is_being_rolled_back_stays_until_another_is_started(stocked: Shop) -> None:
    await stocked.roll_out(Candidate(2, "r-1", "rolling_back"), seq=2)
    with pytest.raises(
        OperatorError, match="detector@2 is being rolled back in group line-3, until that starts another"
    ):
        await run(stocked, 2)
    await stocked.roll_out(Candidate(4, "r-2", "running"), seq=3)
    assert (await run(stocked, 2)).versions == [2]


async def test_of_many_who_name_a_version_the_first_are_told(stocked: Shop) -> None:
    devices = {f"cam-{number}": {MODEL: Pin(4, 1)} for number in range(8)}
    await stocked.sign("rollouts", "rollouts/pins/00.json", encode(Pins(PINS_FORMAT, 1, devices)))
    with pytest.raises(OperatorError, match=r"cam-0, pinned on cam-1, .* on cam-4, and 3 more\Z"):
        await run(stocked, 4)


async def test_where_nobody_can_read_what_is_named_nothing_goes(stocked: Shop) -> None:
    await stocked.sign("rollouts", rollout_name("line-4"), b'{"format":"edge-rollout/2"}')
    with pytest.raises(DocumentError):
        await run(stocked, 3)
    assert await released(stocked) == [4, 3, 2, 1]


@pytest.mark.parametrize(("keep", "left"), [(0, [2, 1]), (1, [4, 2, 1]), (2, [4, 3, 2, 1]), (9, [4, 3, 2, 1])])
async def test_keep_leaves_the_newest_of_what_nobody_names_and_all_that_somebody_does(
    stocked: Shop, keep: int, left: list[int]
) -> None:
    done = await run(stocked, keep=keep)
    assert (list(done.left), await released(stocked)) == (left, left)
    assert {version: list(map(str, uses)) for version, uses in done.named.items()} == {
        2: ["the candidate of group line-3"],
        1: ["pinned on cam-1", "stable in group line-3"],
    }
    assert await is_whole(stocked)


async def test_where_there_is_nothing_to_do_nothing_is_signed(stocked: Shop) -> None:
    await run(stocked, 3)
    before = tree(stocked.directory)
    assert not (await run(stocked, keep=7)).written
    again = await run(stocked, 3)
    assert (again.versions, again.before, again.written) == ([], [3], False)
    assert tree(stocked.directory) == before


async def test_a_dry_run_says_the_same_and_writes_nothing(stocked: Shop) -> None:
    before = tree(stocked.directory)
    said = await run(stocked, 3, 4, dry_run=True)
    assert tree(stocked.directory) == before
    done = await run(stocked, 3, 4)
    done.written = False
    assert said == done


async def test_what_was_never_published_is_told(stocked: Shop) -> None:
    with pytest.raises(Missing, match="detector@7: was never published"):
        await run(stocked, 3, 7)
    repository = stocked.repository()
    await repository.open()
    with pytest.raises(Missing, match="gate: no version of it was ever published"):
        await withdraw(repository, "gate", keep=0)


async def test_without_the_keys_that_sign_releases_nothing_is_written(stocked: Shop) -> None:
    (stocked.path / "keys" / "offline").rename(stocked.path / "safe")
    before = tree(stocked.directory)
    with pytest.raises(OperatorError, match="want 1 private keys of the role releases, found 0"):
        await run(stocked, 3)
    assert tree(stocked.directory) == before


async def test_it_is_remembered_with_what_it_forbade_and_names_no_file(stocked: Shop) -> None:
    await stocked.release(5, b"fifth", min_counter=4)
    await run(stocked, 3, 4, 5)
    repository = stocked.repository()
    await repository.open()
    gone = await read_withdrawn(repository, MODEL)
    assert [(span.first, span.last, span.release_counter, span.min_counter) for span in gone.spans] == [(3, 5, 5, 4)]
    assert not any(digest_of(data)[7:] in msgspec.json.encode(gone).decode() for data in (THIRD, FOURTH))


async def test_a_number_that_is_released_all_the_same_is_a_fault_of_the_store(stocked: Shop) -> None:
    manifest = stocked.target(manifest_name(MODEL, 3)).read_bytes()
    await run(stocked, 3)
    await stocked.sign("releases", manifest_name(MODEL, 3), manifest)
    done = await verify(stocked.store, now=stocked.now, first_root=stocked.root)
    assert [str(fault) for fault in done.faults.found] == ["models/detector/3/manifest.json: was withdrawn, and is released again"]  # fmt: skip


async def test_a_mirror_remembers_it_too(stocked: Shop) -> None:
    site = Site(stocked)
    await site.copy()
    await run(stocked, 3)
    assert (await site.copy()).ok
    assert await site.is_whole()
    repository = stocked.repository(site.store)
    await repository.open()
    assert 3 in await read_withdrawn(repository, MODEL)


async def test_a_device_that_runs_it_keeps_it_where_nothing_else_will_do(stocked: Shop) -> None:
    """It has found the group's version bad, and went back to what was withdrawn meanwhile."""
    site = Site(stocked)
    documents = SignedDocuments(site.device)
    await site.copy()
    await documents.refresh()
    _, third = await documents.release(MODEL, 3)
    await stocked.sign("rollouts", stocked.pins_name, None)
    await stocked.roll_out(None, stable=4, seq=2)
    await run(stocked, 3, 2, 1)
    await site.copy()
    await documents.refresh()
    _, fourth = await documents.release(MODEL, 4)
    with pytest.raises(Missing):
        await documents.release(MODEL, 3)
    planner = Planner(Device("cam-1", GROUP), documents, memory_mb=lambda: None, now=stocked.now.timestamp, local=lambda: stocked.now)  # fmt: skip
    state = ModelState(active=Installed(3, third, "cpu", ()), bad=(Bad(fourth, 4, "selftest_failed", 2),))
    plan = await planner.plan({MODEL: state})
    assert plan.targets == {}, "there is nowhere to go from what it runs"
    assert (await planner.plan({MODEL: ModelState(active=state.active)})).targets[MODEL].release.version == 4
