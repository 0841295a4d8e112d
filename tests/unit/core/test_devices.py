"""A device that hangs: who fails, who takes over, and who is sent elsewhere meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edge.core.devices import Devices
from edge.domain.errors import InferenceFailed, NotReady
from edge.domain.lifecycle import State
from edge.domain.models import ModelOptions
from edge.domain.ports import VersionStatus
from tests.fakes.tflite import FakeBackend
from tests.unit.core.test_manager import World, world
from tests.waiting import until

HANG_S = 0.05


@asynccontextmanager
async def on_usb(backend: FakeBackend, *, load_timeout_s: float = 10.0) -> AsyncIterator[World]:
    """Versions on `usb:0`, where a run may take 50 ms; the start is over with the first."""
    async with world(backend, load_timeout_s=load_timeout_s) as w:
        w.options = ModelOptions(device="usb:0", max_run_s=HANG_S)
        w.manager.started()
        yield w


def status(w: World) -> VersionStatus:
    return w.catalog.models()[0].versions[0]


async def hang(w: World) -> threading.Event:
    """A request that hangs has failed; its run goes on until the event is set."""
    gate = w.backend.hang[1] = threading.Event()
    with pytest.raises(InferenceFailed, match=r"m@1: the run took longer than 0\.05 s \(max_run_s\)"):
        await w.ask()
    del w.backend.hang[1]
    return gate


async def test_a_run_that_hangs_fails_its_request_and_the_cpu_takes_over() -> None:
    async with on_usb(FakeBackend()) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        assert status(w).device == "usb:0"
        gate = await hang(w)
        await until(lambda: status(w).device == "cpu")
        assert status(w).notice == "usb:0: a run has taken longer than 0.05 s (max_run_s)"
        assert await w.ask() == 1.0
        assert w.catalog.ready
        assert not w.backend.closes, "what runs is not closed"
        gate.set()
        await until(lambda: w.backend.closes)
        assert [model.device for model in w.backend.models if not model.closed] == ["cpu"]


async def test_while_a_device_hangs_new_versions_go_elsewhere_and_then_to_it_again() -> None:
    async with on_usb(FakeBackend()) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = await hang(w)
        await until(lambda: status(w).device == "cpu")
        w.aspire(2)
        await w.reach(v2=State.READY)
        assert status(w).device == "cpu"
        assert status(w).notice == "usb:0: a run has taken longer than 0.05 s (max_run_s)"
        gate.set()
        await until(lambda: any(model.device == "usb:0" for model in w.backend.models if model.closed))
        w.aspire(3)
        await w.reach(v3=State.READY)
        assert (status(w).device, status(w).notice) == ("usb:0", "")


async def test_without_a_twin_the_version_says_so_and_serves_again_when_the_run_comes_back() -> None:
    async with on_usb(FakeBackend(lost={"cpu"})) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = await hang(w)
        await until(lambda: "no device cpu" in status(w).reason)
        assert status(w).reason.startswith("usb:0: a run has taken longer than 0.05 s (max_run_s)")
        assert not w.catalog.ready
        with pytest.raises(NotReady, match="m@1: usb:0: a run has taken longer"):
            await w.ask()
        gate.set()
        await until(lambda: w.catalog.ready)
        assert await w.ask() == 1.0
        assert status(w).device == "usb:0"


async def test_a_device_that_hangs_in_the_self_test_leaves_the_version_to_the_cpu() -> None:
    backend = FakeBackend()
    gate = backend.hang[1] = threading.Event()
    async with on_usb(backend, load_timeout_s=0.2) as w:
        w.aspire(1)
        await until(lambda: backend.runs)
        del backend.hang[1]
        await w.reach(v1=State.READY)
        assert status(w).device == "cpu"
        assert status(w).notice == "usb:0: the self-test was not done after 0.2 s"
        assert not backend.closes, "what runs is not closed"
        gate.set()
        await until(lambda: backend.closes)
        assert await w.ask() == 1.0


async def test_what_hangs_on_the_cpu_has_nobody_to_take_over() -> None:
    async with on_usb(FakeBackend()) as w:
        w.options = ModelOptions(lane="thread", instances=1, max_run_s=HANG_S)
        w.aspire(1)
        await w.reach(v1=State.READY)
        gate = await hang(w)
        assert status(w).reason == "cpu: a run has taken longer than 0.05 s (max_run_s)"
        gate.set()
        await until(lambda: not status(w).reason)
        assert await w.ask() == 1.0
        assert len(w.backend.models) == 1


def test_a_device_has_one_lock_for_all_and_the_cpu_none() -> None:
    devices = Devices()
    assert devices.get("usb:0") is devices.get("usb:0")
    assert devices.get("cpu") is None
    with devices.lock("usb:0"), devices.lock("usb:1"), devices.lock("cpu"), devices.lock("cpu"):
        assert devices.get("usb:0").lock.locked()  # type: ignore[union-attr]
