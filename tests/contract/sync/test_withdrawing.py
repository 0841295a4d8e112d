"""Versions are withdrawn whole or not at all, in every store that can be written to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.domain.errors import Conflict, Missing
from sync.domain.layout import rollout_name
from sync.domain.ports import WriteStore
from sync.domain.rollout import encode, parse_rollout
from sync.fleet.rollouts import started
from sync.fleet.sign import Repository, Transaction
from sync.fleet.verify import verify
from sync.fleet.versions import versions_of
from sync.fleet.withdraw import withdraw
from sync.trust.client import TrustClient
from sync.trust.documents import SignedDocuments
from sync.trust.floor import FloorFile
from tests.contract.sync.subjects import WRITING, Subject
from tests.fakes.sync.mortal import MortalStore
from tests.fakes.sync.store import Died
from tests.unit.sync.fleet.shop import GROUP, MODEL, NEW, Shop

pytestmark = pytest.mark.parametrize("store", WRITING, indirect=True)


@pytest.fixture
async def shop(store: Subject, tmp_path: Path) -> Shop:
    made = Shop(tmp_path, store=store.writer)
    await made.create()
    await made.fill()
    return made


async def opened(shop: Shop, store: WriteStore | None = None) -> Repository:
    repository = shop.repository(store)
    await repository.open()
    return repository


async def has(shop: Shop, place: Path, version: int) -> bool:
    """Whether a device that was never seen finds the version; and all of the store is whole."""
    floor = FloorFile(OsFiles(), place / "floor.json")
    client = TrustClient(shop.store, root=shop.root, cache=place, floor=floor, now=shop.now.timestamp)
    documents = SignedDocuments(client)
    await documents.refresh()
    assert (await verify(shop.store, now=shop.now, first_root=shop.root)).ok
    try:
        await documents.release(MODEL, version)
    except Missing:
        return False
    return True


async def test_an_operator_who_dies_between_any_two_writes_leaves_the_old_state_or_the_new_one(
    shop: Shop, tmp_path: Path
) -> None:
    """And the next one goes on from there."""
    for writes in range(30):
        version = 10 + writes
        await shop.release(version, b"model %d" % version, patch=b"patch %d" % version, base=NEW)
        (tmp_path / str(writes)).mkdir()
        try:
            await withdraw(await opened(shop, MortalStore(shop.store, writes)), MODEL, [version])
        except Died:
            assert await has(shop, tmp_path / str(writes), version)
            assert (await withdraw(await opened(shop), MODEL, [version])).written
        else:
            break
    assert 4 < writes < 29
    assert not await has(shop, tmp_path / str(writes), version)
    assert list(await versions_of(await opened(shop), MODEL)) == [2, 1]


async def test_of_two_who_withdraw_at_once_one_wins_and_the_other_is_told(shop: Shop) -> None:
    await shop.release(3, b"third")
    await shop.release(4, b"fourth")
    repositories = [await opened(shop) for _ in range(2)]
    attempts = (withdraw(repository, MODEL, [3 + number]) for number, repository in enumerate(repositories))
    done = await asyncio.gather(*attempts, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "Withdrawal"]
    won = 3 + [isinstance(each, Conflict) for each in done].index(False)
    assert list(await versions_of(await opened(shop), MODEL)) == [7 - won, 2, 1]


@pytest.mark.parametrize("first", ["withdraw", "start"])
async def test_what_somebody_rolls_out_meanwhile_is_not_withdrawn(shop: Shop, first: str) -> None:
    """Nor is rolled out what somebody withdraws meanwhile."""
    await shop.release(3, b"third")
    await shop.roll_out(None, seq=2)
    withdrawing, starting = await opened(shop), await opened(shop)
    document = await starting.read("rollouts", rollout_name(GROUP))
    assert document is not None
    change = Transaction()
    after = started(parse_rollout(document), MODEL, 3, percent=1, today="2026-11-20")
    change.put("rollouts", rollout_name(GROUP), encode(after))
    if first == "withdraw":
        await withdraw(withdrawing, MODEL, [3])
        with pytest.raises(Conflict):
            await starting.commit(change)
    else:
        await starting.commit(change)
        with pytest.raises(Conflict):
            await withdraw(withdrawing, MODEL, [3])
    assert (await verify(shop.store, now=shop.now, first_root=shop.root)).ok
