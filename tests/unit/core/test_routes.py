"""Requests that name no version go where the weights say, and somewhere as long as any version serves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from edge.core.routes import Routed
from edge.domain.errors import NotFound
from edge.domain.lifecycle import State
from edge.domain.models import ModelSpec
from edge.domain.requests import PredictRequest
from edge.domain.routing import Routing
from tests.fakes.route_meter import FakeRouteMeter
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import Ones, World, world
from tests.waiting import until


@asynccontextmanager
async def routed(
    weights: dict[str, float], backend: FakeBackend | None = None, **labels: int
) -> AsyncIterator[tuple[World, FakeRouteMeter]]:
    """Versions 1 and 2 ready, and a model with such weights."""
    async with world(backend or FakeBackend()) as w:
        meter = FakeRouteMeter()
        w.registry.route({"m": Routed(Routing(weights, "X-Key"), meter)})
        w.aspire(1, 2, labels=labels)
        await w.reach(v1=State.READY, v2=State.READY)
        yield w, meter


async def ask(w: World, key: str = "", spec: ModelSpec | None = None) -> int:
    """Which version answered."""
    carried = {b"x-key": key.encode()} if key else {}
    request = PredictRequest(spec or ModelSpec("m"), Ones(), carried=carried)
    return (await w.predict.predict(request)).model.version


async def test_a_key_keeps_its_version_and_the_weights_share_out_the_keys() -> None:
    async with routed({"1": 50, "2": 50}) as (w, meter):
        first = {key: await ask(w, key) for key in map(str, range(60))}
        assert {key: await ask(w, key) for key in first} == first
        assert set(first.values()) == {1, 2}
        went = Counter(first.values())
        assert meter.sides == {("1", 1): 2 * went[1], ("2", 2): 2 * went[2]}


async def test_a_request_that_names_a_version_or_a_label_gets_it_whatever_the_weights_say() -> None:
    async with routed({"2": 1}, old=1) as (w, meter):
        assert await ask(w, spec=ModelSpec("m", 1)) == 1
        assert await ask(w, spec=ModelSpec("m", None, "old")) == 1
        assert not meter.sides
        assert await ask(w) == 2


async def test_a_side_that_is_not_ready_is_passed_over_and_the_status_says_so() -> None:
    async with routed({"1": 1, "7": 99, "gone": 5}) as (w, meter):
        assert [await ask(w, key) for key in map(str, range(10))] == [1] * 10
        assert meter.sides == {("1", 1): 10}
        status = w.catalog.status("m")
        assert status is not None
        assert status.routing is not None
        assert status.routing.problem == "7: not ready; gone: no version has this label"


async def test_with_no_side_ready_the_newest_version_answers() -> None:
    async with routed({"7": 1}) as (w, meter):
        assert await ask(w) == 2
        assert meter.sides == {("", 2): 1}


async def test_a_side_of_weight_0_gets_nothing() -> None:
    async with routed({"1": 0, "2": 1}) as (w, _):
        assert {await ask(w, str(number)) for number in range(50)} == {2}


async def test_a_label_that_comes_to_another_version_keeps_its_keys() -> None:
    async with routed({"stable": 50, "canary": 50}, stable=1, canary=2) as (w, _):
        before = {key: await ask(w, key) for key in map(str, range(40))}
        w.aspire(1, 2, 3, labels={"stable": 1, "canary": 3})
        await w.reach(v3=State.READY)
        after = {key: await ask(w, key) for key in before}
        assert after == {key: {1: 1, 2: 3}[version] for key, version in before.items()}


async def test_a_version_that_breaks_leaves_its_keys_to_the_others_and_no_other_key_moves() -> None:
    async with routed({"1": 50, "2": 25, "3": 25}) as (w, _):
        w.aspire(1, 2, 3)
        await w.reach(v3=State.READY)
        before = {key: await ask(w, key) for key in map(str, range(60))}
        w.aspire(1, 2)
        await w.reach(v3=State.UNLOADED)
        after = {key: await ask(w, key) for key in before}
        assert all(after[key] == version for key, version in before.items() if version != 3)
        assert {after[key] for key, version in before.items() if version == 3} == {1, 2}


async def test_new_weights_hold_for_the_next_request_and_none_at_all_give_the_newest() -> None:
    async with routed({"1": 1}) as (w, meter):
        assert await ask(w) == 1
        w.registry.route({"m": Routed(Routing({"2": 1}), meter)})
        assert await ask(w) == 2
        w.registry.route({"m": Routed(Routing({"1": 1}), meter)})
        w.registry.route({})
        assert await ask(w) == 2
        status = w.catalog.status("m")
        assert status is not None
        assert status.routing is None


async def test_the_metadata_are_the_newest_versions_and_show_the_weights_without_counting() -> None:
    async with routed({"1": 3, "2": 0}) as (w, meter):
        info = w.catalog.describe(ModelSpec("m"))
        assert info.id.version == 2
        assert info.routing is not None
        assert [(side.name, side.weight, side.ready) for side in info.routing.sides] == [("1", 3, True), ("2", 0, True)]
        assert not meter.sides


async def test_a_model_without_any_version_is_not_found_with_weights_too() -> None:
    async with world(FakeBackend(failing={1})) as w:
        w.registry.route({"m": Routed(Routing({"1": 1}), FakeRouteMeter())})
        w.aspire(1)
        await w.reach(v1=State.FAILED)
        with pytest.raises(NotFound):
            await ask(w)


def stands(w: World, state: State) -> bool:
    return w.states().get(3, State.UNLOADED) is state


async def test_no_request_fails_while_weights_and_versions_change_under_load() -> None:
    async with routed({"1": 1, "2": 1}) as (w, meter):
        stop = False
        asked: Counter[int] = Counter()

        async def client(name: str) -> None:
            while not stop:
                asked[await ask(w, name)] += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(client(str(number)))
            for turn in range(30):
                w.registry.route({"m": Routed(Routing({"1": turn % 3, "2": 1, "3": 1}, "X-Key"), meter)})
                wanted = (1, 2, 3) if turn % 2 else (1, 2)
                w.aspire(*wanted)
                await until(partial(stands, w, State.READY if turn % 2 else State.UNLOADED))
            stop = True
        assert set(asked) == {1, 2, 3}


def test_a_server_without_weights_and_shadows_does_not_import_what_they_need() -> None:
    wanted = (
        "edge.domain.routing",
        "edge.core.routes",
        "edge.core.shadow",
        "edge.core.compare",
        "edge.telemetry.routing",
    )
    check = f"import sys; import edge.app, edge.telemetry.exposition; print([n for n in {wanted} if n in sys.modules])"
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "[]\n"


async def test_a_model_without_weights_is_answered_without_a_look_at_what_a_request_carries() -> None:
    class Unread:
        def get(self, name: bytes, /) -> bytes | None:
            raise AssertionError(name)

    async with world(FakeBackend()) as w:
        w.registry.route({"other": Routed(Routing({"1": 1}, "x"), FakeRouteMeter())})
        w.aspire(1)
        await w.reach(v1=State.READY)
        response = await w.predict.predict(PredictRequest(ModelSpec("m"), Ones(), carried=Unread()))
        assert response.model.version == 1
