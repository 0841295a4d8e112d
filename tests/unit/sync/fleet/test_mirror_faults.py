"""What is wrong at the source stays there, what is damaged at the mirror is repaired, what was cut short is gone on with."""

from __future__ import annotations

import pytest

from sync.domain.errors import Missing, Reason, TrustError
from sync.domain.layout import TIMESTAMP, manifest_name
from sync.domain.rollout import Candidate
from sync.fleet.mirror import IN_MEMORY_BYTES
from sync.stores.directory import DirectoryStore
from sync.stores.http import HttpStore
from tests.fakes.sync.mortal import MortalStore
from tests.fakes.sync.origin import Origin, serving
from tests.unit.sync.fleet.shop import MODEL, NEW, OLD, Shop, flip, tree
from tests.unit.sync.fleet.site import Site


@pytest.fixture
def site(shop: Shop) -> Site:
    return Site(shop)


async def test_with_anything_wrong_at_the_source_the_mirror_stays_what_it_was(site: Site, shop: Shop) -> None:
    await site.copy()
    before = await site.polled()
    await shop.release(3, b"newest " * 50)
    await shop.release(4, b"newer than that " * 50)
    await shop.roll_out(Candidate(3, "r-2", "running"), seq=2)
    flip(shop.blob(b"newest " * 50))
    done = await site.copy()
    assert [fault.error.reason for fault in done.faults.found] == [Reason.HASH_MISMATCH]
    assert done.blobs == 1, "the rest was copied, and is there for the next run"
    assert await site.polled() == before
    assert await site.is_whole()
    flip(shop.blob(b"newest " * 50))
    done = await site.copy()
    assert (done.ok, done.blobs) == (True, 1)


async def test_a_document_or_a_file_that_is_missing_at_the_source_is_named(site: Site, shop: Shop) -> None:
    shop.target(manifest_name(MODEL, 1)).unlink()
    shop.blob(NEW).unlink()
    done = await site.copy()
    assert "models/detector/1/manifest.json" in str(done.faults.found[0])
    assert shop.blob(NEW).name in str(done.faults.found[1])
    assert not (site.directory / "metadata").exists()


async def test_what_has_expired_is_not_mirrored(site: Site, shop: Shop) -> None:
    shop.later(days=2)
    done = await site.copy()
    assert {fault.error.reason for fault in done.faults.found} == {Reason.STALE_METADATA}
    assert not site.directory.exists()


async def test_what_expires_while_it_is_copied_is_not_put_in_force(site: Site, shop: Shop) -> None:
    async def slow(path: str) -> None:
        shop.later(hours=2)

    with pytest.raises(TrustError, match="timestamp: expired"):
        await site.copy(target=MortalStore(site.directory, after=slow))
    assert not (site.directory / TIMESTAMP).exists()


async def test_damage_at_the_mirror_is_repaired(site: Site, shop: Shop) -> None:
    await site.copy()
    names = {path.name for path in (site.directory / "blobs/sha256").iterdir()}
    (site.directory / "blobs/sha256" / shop.blob(OLD).name).write_bytes(OLD[:-5])
    flip(site.directory / "blobs/sha256" / shop.blob(NEW).name)
    flip(site.directory / shop.target(manifest_name(MODEL, 1)).relative_to(shop.directory))
    flip(site.directory / shop.metadata("snapshot").relative_to(shop.directory))
    (site.directory / shop.metadata("releases.bin-1").relative_to(shop.directory)).unlink()
    done = await site.copy()
    assert (done.blobs, done.documents, done.metadata) == (1, 1, 2), "what has another length is seen at once"
    assert not await site.is_whole()
    done = await site.copy(check=True)
    assert done.blobs == 1
    assert await site.is_whole()
    assert {path.name for path in (site.directory / "blobs/sha256").iterdir()} == names


async def test_a_large_file_that_was_cut_short_is_gone_on_with_by_the_next_run(site: Site, shop: Shop) -> None:
    large = bytes(range(256)) * (IN_MEMORY_BYTES // 256 + 4096)
    await shop.release(3, large)
    objects = {f"/{path}": data for path, data in tree(shop.directory).items()}
    name = shop.blob(large).name

    def behave(number: int) -> str:
        path, asked = origin.asked[-1]
        return ("500" if asked else "break:700000") if path.endswith(name) and not healed else ""

    healed = False
    origin = Origin(objects, behave)
    async with serving(origin):
        source = HttpStore(origin.url)
        first = await site.copy(source)
        assert not first.ok
        have = (site.spool / f"{name}.part").stat().st_size
        assert 0 < have <= 700_000
        healed = True
        assert (await site.copy(source)).blobs == 1
        await source.close()
    assert [asked for path, asked in origin.asked if path.endswith(name)][-1] == f"bytes={have}-"
    assert not (site.spool / f"{name}.part").exists()
    assert await site.is_whole()


async def test_what_an_earlier_run_left_that_is_wrong_is_begun_again(site: Site, shop: Shop) -> None:
    large = b"x" * (IN_MEMORY_BYTES + 1000)
    await shop.release(3, large)
    site.spool.mkdir()
    (site.spool / f"{shop.blob(large).name}.part").write_bytes(b"y" * 5000)
    assert (await site.copy()).ok
    assert await site.is_whole()


async def test_a_source_without_a_repository_says_so(site: Site, shop: Shop) -> None:
    with pytest.raises(Missing):
        await site.copy(DirectoryStore(shop.path / "nothing"))
