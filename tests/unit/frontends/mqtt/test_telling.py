from __future__ import annotations

import asyncio
import contextlib

from edge.frontends.mqtt.telling import Events, tell_stats
from edge.mqtt.message import Properties
from edge.mqtt.topics import Tree
from tests.fakes.link import FakeLink
from tests.waiting import until


async def test_figures_are_told_again_and_again_while_there_is_a_connection_and_may_be_lost() -> None:
    link, connected, made = FakeLink(), False, 0

    def body() -> bytes:
        nonlocal made
        made += 1
        return b"{}"

    task = asyncio.create_task(tell_stats(link, "t/stats", body, every_s=0.01, wanted=lambda: connected))
    await asyncio.sleep(0.05)
    assert (link.published, made) == ([], 0)
    connected = True
    await until(lambda: len(link.published) >= 3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert all(
        (each.topic, each.qos, each.retain, each.droppable) == ("t/stats", 0, False, True) for each in link.published
    )
    assert link.published[0].properties.content_type == "application/json"


def test_a_result_is_told_as_it_was_answered_but_for_its_expiry() -> None:
    link = FakeLink()
    properties = Properties(correlation=b"1", expiry_s=3, content_type="application/json", user=(("version", "2"),))
    Events(link, Tree("edge", "cam1")).answered("digits", b"[1]", properties)
    (told,) = link.published
    assert (told.topic, told.payload, told.qos, told.droppable) == ("edge/v1/cam1/events/digits", b"[1]", 0, True)
    assert told.properties == Properties(correlation=b"1", content_type="application/json", user=(("version", "2"),))
