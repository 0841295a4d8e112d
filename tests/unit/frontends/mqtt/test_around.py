from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from edge.frontends.mqtt.answers import Answered
from edge.frontends.mqtt.around import Around, AroundOptions, Known
from edge.frontends.mqtt.command_form import NAMES
from edge.frontends.mqtt.commands import Deeds
from edge.frontends.mqtt.home_assistant import Node
from edge.mqtt.message import Message
from edge.mqtt.topics import Tree
from tests.fakes.link import FakeLink
from tests.waiting import until

TREE = Tree("edge", "cam1")


@dataclass
class FakeFront:
    """Keeps what hooks into it."""

    link: FakeLink = field(default_factory=FakeLink)
    routes: dict[str, Callable[[Message], None]] = field(default_factory=dict)
    connected: list[Callable[[], None]] = field(default_factory=list)
    answered: list[Callable[[Answered], None]] = field(default_factory=list)
    works: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def route(self, filter: str, handler: Callable[[Message], None], *, retain_as_published: bool = False) -> None:
        self.routes[filter] = handler
        self.link.subscribe(filter, retain_handling=2, retain_as_published=retain_as_published)

    def when_connected(self, call: Callable[[], None]) -> None:
        self.connected.append(call)

    def when_answered(self, call: Callable[[Answered], None]) -> None:
        self.answered.append(call)

    def alongside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.works.append(work)

    def when_closing(self, call: Callable[[], Awaitable[None]]) -> None:
        self.closing.append(call)


@dataclass
class Models:
    names: list[str] = field(default_factory=lambda: ["digits"])
    change: asyncio.Event = field(default_factory=asyncio.Event)

    async def changed(self) -> None:
        await self.change.wait()
        self.change.clear()


def around(
    front: FakeFront,
    models: Models | None = None,
    *,
    dropped: Callable[[str], None] = lambda reason: None,
    **options: Any,
) -> Around:
    async def rescan() -> None:
        pass

    deeds = Deeds(
        catalog=None,  # type: ignore[arg-type]  # nothing here asks for a model
        control=None,
        rescan=rescan,
        reload=lambda: None,
        set_level=lambda level: None,
    )
    there = models or Models()
    return Around(
        front,
        Node(TREE, "1"),
        AroundOptions(reply_allow=(TREE.reply_filter,), **options),
        deeds,
        Known(stats=lambda: b'{"models":[]}', models=lambda: there.names, changed=there.changed),
        dropped=dropped,
    )


async def test_all_commands_of_the_node_are_subscribed_and_those_of_its_groups_and_of_all_by_name() -> None:
    front = FakeFront()
    around(front, groups=("canary",))
    assert set(front.routes) == {
        "edge/v1/cam1/cmd/+",
        *(f"edge/v1/_fleet/{group}/cmd/{name}" for group in ("all", "canary") for name in NAMES),
    }
    wanted = {"retain_handling": 2, "retain_as_published": True}
    assert all(front.link.subscribed[topic] == wanted for topic in front.routes)


async def test_a_name_that_no_command_can_have_is_acked_and_counted_and_nothing_else() -> None:
    front, dropped = FakeFront(), list[str]()
    around(front, dropped=dropped.append)
    front.routes["edge/v1/cam1/cmd/+"](Message("edge/v1/cam1/cmd/No pe", b"{}", 1))
    assert (dropped, len(front.link.acked), front.link.published) == (["unknown_topic"], 1, [])


async def test_a_command_is_done_and_one_to_a_fleet_waits_a_while() -> None:
    front = FakeFront()
    one = around(front, fleet_jitter_s=60.0)
    for topic in ("edge/v1/_fleet/all/cmd/reload", "edge/v1/cam1/cmd/log-level"):
        route = "edge/v1/cam1/cmd/+" if "cam1" in topic else topic
        front.routes[route](Message(topic, b'{"level": "info"}' if "level" in topic else b""))
    await until(lambda: front.link.published)
    assert [each.topic for each in front.link.published] == ["edge/v1/cam1/cmd/log-level/result"]
    await one.close()


async def test_what_is_not_wanted_is_not_hooked_in() -> None:
    front = FakeFront()
    around(front, stats_s=0.0)
    assert (front.connected, front.answered, front.works) == ([], [], [])
    assert "homeassistant/status" not in front.routes


async def test_figures_are_told_while_the_link_is_connected_and_not_before() -> None:
    class Watched(FakeLink):
        """Notes how often somebody looks whether it is connected."""

        looks, on = 0, False

        def __getattribute__(self, name: str) -> Any:
            if name != "connected":
                return super().__getattribute__(name)
            Watched.looks += 1
            return Watched.on

    front = FakeFront(Watched())
    around(front, stats_s=0.01)
    (work,) = front.works
    task = asyncio.create_task(work())
    await until(lambda: Watched.looks >= 3)
    assert front.link.published == []
    Watched.on = True
    await until(lambda: TREE.stats in [each.topic for each in front.link.published])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_results_are_told_where_that_is_wanted() -> None:
    front = FakeFront()
    around(front, publish_results=True)
    assert len(front.answered) == 1


async def test_home_assistant_learns_of_models_as_they_come_and_go() -> None:
    front, models = FakeFront(), Models()
    one = around(front, models, stats_s=0.0, home_assistant=True)
    (work,) = front.works
    task = asyncio.create_task(work())
    await until(lambda: front.link.published)
    front.routes["homeassistant/status"](Message("homeassistant/status", b"offline"))
    models.names = ["other"]
    models.change.set()
    await until(lambda: len(front.link.published) == 3)
    (again,) = front.connected
    again()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.close()
    told = [json.loads(each.payload)["components"].keys() for each in front.link.published]
    assert told == [{"digits"}, {"digits", "other"}, {"other"}, {"other"}]
    assert {each.topic for each in front.link.published} == {"homeassistant/device/edge_cam1/config"}
