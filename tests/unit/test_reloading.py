"""What takes the configuration's place: in which order, and what becomes of it when something goes wrong."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from edge import reloading as module
from edge.config import Config, ConfigError, load_config
from edge.domain.errors import DeadlineExceeded, InvalidInput, ModelsNotAvailable, Overloaded, TooEarly
from edge.reloading import MAX_CALLS, Parts, Reloading
from tests.waiting import until

Available = Mapping[str, Collection[int]]


def config(*names: str, **flags: object) -> Config:
    base = {"server.state_dir": "/nowhere", "admin.uds": "/nowhere/s"} | flags
    return load_config(None, {}, base | {f"models.{name}.path": f"/models/{name}" for name in names})


class FakeConduct:
    """A client sends the names of models; `file` is what the files say. `gate` holds whoever reads, `problem` is raised."""

    def __init__(self) -> None:
        self.file = config("a")
        self.gate = threading.Event()
        self.gate.set()
        self.problem: Exception | None = None
        self.read: list[str] = []

    def opened(self, at: object) -> None: ...

    async def follow(self, reload: Callable[[], None]) -> None: ...

    def reread(self, old: Config, available: Available) -> Config:
        self._look("file")
        return self.file

    def reconfigured(self, sent: bytes, old: Config, available: Available) -> Config:
        self._look(sent.decode())
        return msgspec.structs.replace(old, models=config(*sent.decode().split()).models)

    def _look(self, what: str) -> None:
        self.gate.wait(10)
        self.read.append(what)
        if self.problem is not None:
            raise self.problem


class World:
    """`serving` are the models that have been tried and serve; `untried` are not looked at for ever; all others fail."""

    def __init__(self) -> None:
        self.conduct = FakeConduct()
        self.fed: list[set[str]] = []
        self.serving, self.untried = {"a", "b", "c"}, set[str]()
        self.reloads = 0
        self.told: list[str] = []
        nothing = SimpleNamespace(follow=lambda paths: None, wait=None, notify=None)
        parts = Parts(
            manager=self,  # type: ignore[arg-type]
            registry=SimpleNamespace(models=MappingProxyType({})),  # type: ignore[arg-type]
            feeds=self,  # type: ignore[arg-type]
            changes=nothing,  # type: ignore[arg-type]
            keepsakes=nothing,  # type: ignore[arg-type]
            control=self,  # type: ignore[arg-type]
            supervised=SimpleNamespace(reloading=lambda: None, ready=self.told.append),  # type: ignore[arg-type]
            route=lambda new: None,
            standing=lambda: "well",
        )
        self.reloading = Reloading(config("a"), parts, reread=None, conduct=self.conduct)

    @property
    def models(self) -> dict[str, Any]:
        served = {name: SimpleNamespace(newest=object() if name in self.serving else None) for name in self.names}
        return {name: SimpleNamespace(removed=False, serving=each, failed=3) for name, each in served.items()}

    @property
    def names(self) -> set[str]:
        return set(self.reloading.config.models)

    async def replace(self, sources: Mapping[str, object], unchanged: set[str]) -> None:
        self.fed.append(set(sources))

    async def tried(self, names: Collection[str]) -> None:
        if self.untried & set(names):
            await asyncio.Event().wait()

    async def reload(self) -> None:
        self.reloads += 1

    async def reload_tokens(self, file: Path | None) -> None: ...

    certificates = None

    def send(self, names: str, within_s: float = 10.0) -> asyncio.Task[None]:
        deadline = asyncio.get_running_loop().time() + within_s
        return asyncio.create_task(self.reloading.reconfigure(names.encode(), deadline))


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.reloading.run(world))  # type: ignore[arg-type]
    try:
        yield world
        assert not task.done(), "nothing ends it"
    finally:
        world.conduct.gate.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_is_taken_in_its_order_and_files_once_however_often_they_are_wanted() -> None:
    async with running() as world:
        world.conduct.gate.clear()
        first = world.send("a b")
        await asyncio.sleep(0)
        for _ in range(3):
            world.reloading.want()
        second = world.send("c")
        await asyncio.sleep(0)
        world.reloading.want()
        world.conduct.gate.set()
        await asyncio.gather(first, second)
        assert world.conduct.read == ["a b", "file", "c"]
        assert (world.fed, world.names) == ([{"a", "b"}, {"a"}, {"c"}], {"c"})
        assert (world.told, world.reloads) == (["well"], 1)


async def test_what_is_refused_changes_nothing_whoever_refuses_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as world:
        for problem, told in (
            (TooEarly("no"), TooEarly),
            (InvalidInput("no"), InvalidInput),
            (KeyError("x"), KeyError),
        ):
            world.conduct.problem = problem
            with pytest.raises(told):
                await world.send("b")
        world.conduct.problem = ConfigError(["no"])
        world.reloading.want()
        await until(lambda: world.told)
        world.conduct.problem = None
        with monkeypatch.context() as patched:
            patched.setattr(module, "watched", denied)
            with pytest.raises(InvalidInput, match="/models/b"):
                await world.send("b")
            world.conduct.file = config("z")
            world.reloading.want()
            await until(lambda: len(world.told) == 2)
        assert (world.fed, world.names, world.reloads) == ([], {"a"}, 0)
        assert all(each.startswith("the configuration was not reloaded") for each in world.told)
        assert [each.levelno for each in caplog.records] == [logging.ERROR] * 6
        await world.send("b")
        assert world.names == {"b"}


async def test_a_bug_leaves_its_traceback_in_the_log_though_its_client_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as world:
        world.conduct.gate.clear()
        world.conduct.problem = KeyError("x")
        asked = world.send("b")
        await asyncio.sleep(0)
        await until(lambda: not world.reloading.queued)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        world.conduct.gate.set()
        await until(lambda: caplog.records)
        assert "in _look" in caplog.text


def denied(new: Config) -> list[Path]:
    raise PermissionError(13, "Permission denied", "/models/b")


async def test_who_gives_up_before_it_is_his_turn_has_changed_nothing_and_after_it_everything() -> None:
    async with running() as world:
        world.conduct.gate.clear()
        begun, waiting = world.send("b"), world.send("c")
        await asyncio.sleep(0.01)
        begun.cancel()
        waiting.cancel()
        await asyncio.gather(begun, waiting, return_exceptions=True)
        world.conduct.gate.set()
        await world.send("a b")
        assert world.conduct.read == ["b", "a b"]
        assert world.fed == [{"b"}, {"a", "b"}]


async def test_nothing_is_kept_of_those_who_gave_up_before_their_turn_however_long_others_take() -> None:
    async with running() as world:
        world.conduct.gate.clear()
        begun = world.send("b")
        await until(lambda: not world.reloading.queued)
        for _ in range(3):
            given_up = [world.send("c") for _ in range(MAX_CALLS - 1)]
            await until(lambda: world.reloading.queued == MAX_CALLS - 1)
            for each in given_up:
                each.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)
            assert world.reloading.queued == 0
        world.conduct.gate.set()
        await begun


async def test_no_more_wait_than_may() -> None:
    async with running() as world:
        world.conduct.gate.clear()
        waiting = [world.send("b") for _ in range(MAX_CALLS)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match=f"{MAX_CALLS} calls wait"):
            await world.send("b")
        world.conduct.gate.set()
        await asyncio.gather(*waiting)
        await world.send("b")


async def test_new_models_that_do_not_serve_are_told_and_others_are_not_waited_for() -> None:
    async with running() as world:
        with pytest.raises(ModelsNotAvailable) as caught:
            await world.send("a b x y")
        assert caught.value.models == {"x": 3, "y": 3}
        assert world.names == {"a", "b", "x", "y"}, "it holds"
        await world.send("a x")
        world.untried = {"z"}
        with pytest.raises(DeadlineExceeded, match="the configuration holds"):
            await world.send("a z", within_s=0.05)
        assert world.names == {"a", "z"}


async def test_the_time_of_a_call_that_has_no_deadline_is_the_servers() -> None:
    async with running() as world:
        world.reloading.config = config("a", **{"server.start_hold_s": 0.05})
        world.untried = {"z"}
        with pytest.raises(DeadlineExceeded, match="the configuration holds"):
            await asyncio.wait_for(world.reloading.reconfigure(b"z", float("inf")), 10)
        world.conduct.gate.clear()
        begun, waiting = (asyncio.create_task(world.reloading.reconfigure(b"b", float("inf"))) for _ in range(2))
        with pytest.raises(DeadlineExceeded, match="is still being taken"):
            await asyncio.wait_for(begun, 10)
        with pytest.raises(DeadlineExceeded, match="was not taken: others came first"):
            await asyncio.wait_for(waiting, 10)
