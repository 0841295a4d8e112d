"""Among many who are nobody, everybody has a turn."""

from __future__ import annotations

import asyncio

from edge.client.turns import Turns


async def test_who_is_new_comes_before_who_had_a_turn_and_nobody_has_one_twice_unasked() -> None:
    turns = Turns(10)
    for name in ("a", "a", "b"):
        turns.hear(name)
    turns.again("slow")
    assert {(await turns.next()), (await turns.next())} == {("a", True), ("b", True)}
    assert await turns.next() == ("slow", False)
    turns.hear("a")
    waiting = asyncio.create_task(turns.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    turns.hear("c")
    assert await waiting == ("c", True)


async def test_no_place_in_the_order_of_arrival_is_the_last() -> None:
    firsts = set()
    for _ in range(100):
        turns = Turns(10)
        for name in "abc":
            turns.hear(name)
        firsts.add((await turns.next())[0])
    assert firsts == set("abc")


async def test_of_more_than_there_is_room_for_the_newest_replaces_one_that_waits() -> None:
    turns = Turns(3)
    for name in "abcd":
        turns.hear(name)
    found = {(await turns.next())[0] for _ in range(3)}
    assert "d" in found
    turns.hear("e")
    waiting = asyncio.create_task(turns.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
