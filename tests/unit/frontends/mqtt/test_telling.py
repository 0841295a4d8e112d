from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from edge.frontends.mqtt.answers import Answered
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


JSON = {"Content-Type": "application/json"}
ANSWER = Answered("digits", 2, 200, JSON, b"[1]")


def test_a_result_is_told_with_what_is_needed_to_read_it() -> None:
    link = FakeLink()
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "20"}
    events = Events(link, Tree("edge", "cam1"))
    events.answered(ANSWER)
    events.answered(replace(ANSWER, headers=binary))
    said = (("model", "digits"), ("version", "2"), ("node", "cam1"))
    assert [(each.topic, each.payload, each.qos, each.retain, each.droppable) for each in link.published] == [
        ("edge/v1/cam1/events/digits", b"[1]", 0, False, True)
    ] * 2
    assert [each.properties for each in link.published] == [
        Properties(content_type="application/json", user=said, text=True),
        Properties(content_type="application/octet-stream", user=(*said, ("inference-header-content-length", "20"))),
    ]


def test_an_error_is_no_result() -> None:
    link = FakeLink()
    Events(link, Tree("edge", "cam1")).answered(replace(ANSWER, status=503))
    assert link.published == []
