"""A mirror is whole at every moment, takes nothing that is wrong, and never goes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sync.domain.errors import Conflict, OperatorError, Reason, TrustError
from sync.domain.layout import TIMESTAMP
from sync.domain.rollout import Candidate
from sync.stores.directory import DirectoryStore
from sync.stores.http import HttpStore
from tests.fakes.sync.mortal import MortalStore
from tests.fakes.sync.static import static_server
from tests.fakes.sync.store import Died
from tests.unit.sync.fleet.shop import Shop, tree
from tests.unit.sync.fleet.site import Site


@pytest.fixture
def site(shop: Shop) -> Site:
    return Site(shop)


async def test_a_copy_is_whole_and_has_what_is_named_and_nothing_else(site: Site, shop: Shop) -> None:
    stray = await shop.put_blob(b"what nothing names")
    done = await site.copy()
    assert done.ok
    assert (done.blobs, done.blobs_there, done.documents, done.smooth) == (3, 0, 5, True)
    assert await site.is_whole()
    copied, original = tree(site.directory), tree(shop.directory)
    assert stray not in copied
    assert copied.items() <= original.items()
    assert b"detector" in await site.polled()


async def test_from_a_web_server_it_is_the_same(site: Site, shop: Shop) -> None:
    async with static_server(shop.directory) as server:
        source = HttpStore(server.url)
        assert (await site.copy(source)).ok
        await source.close()
    assert await site.is_whole()


async def test_files_come_before_what_names_them_and_the_timestamp_last(site: Site) -> None:
    target = MortalStore(site.directory)
    await site.copy(target=target)
    order = [path.split("/")[0] for path in target.written]
    assert order[-1] == "metadata"
    assert target.written[-1] == TIMESTAMP
    names = [path.split(".", 1)[1] for path in target.written[order.index("metadata") : -1]]
    assert names[-2:] == ["snapshot.json", "root.json"]
    assert names.index("releases.bin-0.json") < names.index("releases.json") < names.index("targets.json")
    assert "blobs" not in order[order.index("metadata") :]
    assert "targets" not in order[order.index("metadata") :]


async def test_a_second_run_copies_nothing_and_a_third_only_what_is_new(site: Site, shop: Shop) -> None:
    await site.copy()
    again = await site.copy()
    assert (again.blobs, again.documents, again.metadata, again.current) == (0, 0, 0, True)
    await shop.release(3, b"newest " * 50)
    more = await site.copy()
    assert (more.blobs, more.blobs_there, more.documents, more.current) == (1, 3, 1, False)
    assert await site.is_whole()


async def test_a_mirror_that_dies_between_any_two_writes_leaves_the_old_state_or_the_new_one(
    site: Site, shop: Shop
) -> None:
    await site.copy()
    before = await site.polled()
    await shop.release(3, b"newest " * 50)
    await shop.roll_out(Candidate(3, "r-2", "running"), seq=2)
    kept = site.directory.with_name("kept")
    shutil.copytree(site.directory, kept)
    for writes in range(60):
        shutil.rmtree(site.directory)
        shutil.copytree(kept, site.directory)
        site.device = site.new_device(f"device-{writes}")
        try:
            done = await site.copy(target=MortalStore(site.directory, writes))
        except Died:
            assert await site.polled() == before
            assert await site.is_whole(), writes
            assert (await site.copy()).ok
            assert b'"version":3' in await site.polled()
        else:
            break
    assert done.ok
    assert writes == 7, "a file, two documents, two bins, the snapshot, the timestamp"


@pytest.mark.parametrize("roles", [["timestamp"], ["snapshot", "timestamp"], ["root"], ["targets"], ["releases"]])
async def test_keys_that_were_rotated_once_never_show_a_device_what_it_cannot_verify(
    site: Site, shop: Shop, roles: list[str]
) -> None:
    await site.copy()
    await site.polled()
    for role in roles:
        await shop.rotate(role)
    polls = 0

    async def poll(path: str) -> None:
        nonlocal polls
        await site.polled()
        await site.new_device(f"fresh-{polls}").refresh()
        polls += 1

    done = await site.copy(target=MortalStore(site.directory, after=poll))
    assert done.ok
    assert done.smooth
    assert polls == done.metadata + done.documents
    assert await site.is_whole()


async def test_keys_that_were_rotated_twice_are_told_and_end_well(site: Site, shop: Shop) -> None:
    await site.copy()
    await site.polled()
    await shop.rotate("timestamp")
    await shop.rotate("timestamp")
    await shop.refresh()
    done = await site.copy()
    assert done.ok
    assert not done.smooth
    assert b"detector" in await site.polled()
    assert await site.is_whole()


async def test_a_run_that_died_in_the_midst_of_that_is_finished_by_the_next(site: Site, shop: Shop) -> None:
    await site.copy()
    await shop.rotate("timestamp")
    await shop.rotate("timestamp")
    await shop.refresh()
    with pytest.raises(Died):
        await site.copy(target=MortalStore(site.directory, 4))
    assert (await site.copy()).ok
    assert await site.is_whole()


async def test_nothing_older_comes_over_something_newer(site: Site, shop: Shop) -> None:
    older = DirectoryStore(shop.path / "older")
    shutil.copytree(shop.directory, shop.path / "older")
    await shop.roll_out(None, stable=2, seq=2)
    await site.copy()
    before = tree(site.directory)
    with pytest.raises(TrustError, match="it would go back") as caught:
        await site.copy(older)
    assert caught.value.reason is Reason.TRUST_ROLLBACK
    assert tree(site.directory) == before


async def test_a_source_without_the_newest_root_is_refused(site: Site, shop: Shop) -> None:
    older = DirectoryStore(shop.path / "older")
    shutil.copytree(shop.directory, shop.path / "older")
    await shop.rotate("root")
    await site.copy()
    with pytest.raises(TrustError, match="root: want version 1 at most"):
        await site.copy(older)


async def test_another_repository_is_not_written_over(site: Site, shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    await other.create()
    with pytest.raises(Conflict, match="it is no mirror of this store"):
        await site.copy(target=other.store)
    with pytest.raises(Conflict, match="is not the store of that root"):
        await site.copy(other.store)


async def test_a_mirror_where_somebody_else_signs_is_left_alone(site: Site, shop: Shop) -> None:
    await site.copy()
    there = Shop(shop.path, shop.now)
    there.store, there.directory = site.store, site.directory
    await there.roll_out(None, stable=2, seq=9)
    (shop.path / "keys" / "seen.json").unlink()
    await shop.roll_out(Candidate(2, "r-3", "paused"), seq=2)
    with pytest.raises(Conflict, match="somebody else signs there"):
        await site.copy()
    await shop.refresh()
    with pytest.raises(Conflict, match="somebody else signs there"):
        await site.copy()


async def test_of_two_mirrors_at_once_one_is_told(site: Site, shop: Shop) -> None:
    await site.copy()
    await shop.refresh()

    async def other(path: str) -> None:
        if path != TIMESTAMP and not path.endswith("done"):
            site.spool = shop.path / "another-spool"
            if not (shop.path / "done").exists():
                (shop.path / "done").touch()
                await shop.refresh()
                assert (await site.copy()).ok

    await shop.roll_out(None, seq=5)
    with pytest.raises(Conflict, match="somebody else has written"):
        await site.copy(target=MortalStore(site.directory, after=other))
    assert await site.is_whole()


async def test_two_runs_in_one_work_directory_are_told(site: Site, shop: Shop) -> None:
    async def other(path: str) -> None:
        with pytest.raises(OperatorError, match="another mirror is at work there"):
            await site.copy()

    await site.copy(target=MortalStore(site.directory, after=other))
