"""Commands by themselves: what they may ask, what is answered, and that one that comes twice is done once."""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.agent.asked import Asked
from sync.agent.nudges import NudgeLimits
from sync.agent.orders import HOLD_EVERY_S, MAX_ANSWERS, MAX_HOLDS, OBEYED, Orders
from sync.config import MqttSection
from sync.domain.digests import Digest
from sync.domain.errors import DiskError
from sync.domain.journal import Held
from tests.fakes.sync.clock import FakeClock
from tests.waiting import until


class Device:
    """Does what it is told, and notes it. `broken`: its disk is."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.broken = False

    async def report_now(self) -> None:
        self.did.append("report")

    async def pin(self, model: str, version: int | None = None) -> Held:
        if self.broken:
            raise DiskError("no space left")
        self.did.append(f"pin {model}")
        return Held(version or 7, Digest("d"), "pin")

    async def roll_back(self, model: str) -> Held:
        self.did.append(f"rollback {model}")
        return Held(6, Digest("d"), "rollback")

    async def unpin(self, model: str) -> bool:
        raise RuntimeError("a bug")


def orders(device: Device, clock: FakeClock | None = None, *, commands: Literal["off", "ask", "all"] = "all") -> Orders:
    clock, limits = clock or FakeClock(), NudgeLimits()
    return Orders(device, Asked(clock, limits=limits), clock, commands=commands, limits=limits, chance=random.Random(1))


async def obeyed(subject: Orders, name: str, payload: bytes = b"", **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await subject.obey(name, payload, **{"fleet": False, **more}))
    return told


def test_what_is_obeyed_is_what_the_configuration_may_say() -> None:
    assert MqttSection().commands == "ask", "who signs nothing holds no version unless somebody wanted it so"
    assert [key for key in OBEYED if "rollback" in OBEYED[key]] == ["all"]


async def test_one_that_comes_twice_is_done_once_by_its_correlation_or_its_transaction() -> None:
    device = Device()
    subject = orders(device)
    first = await obeyed(subject, "rollback", b'{"model": "m"}', correlation=b"\x01")
    assert await obeyed(subject, "rollback", b'{"model": "m"}', correlation=b"\x01") == first
    for transaction in (b'"a"', b"0"):
        for _ in range(2):
            await obeyed(subject, "rollback", b'{"model": "m", "transaction": %s}' % transaction)
    assert device.did == ["rollback m"] * 3
    for number in range(MAX_ANSWERS):
        await obeyed(subject, "sync", correlation=b"%d" % number)
    await obeyed(subject, "rollback", b'{"model": "m"}', correlation=b"\x01")
    assert device.did == ["rollback m"] * 4, "what was long ago is forgotten"


async def test_a_flood_of_wishes_for_reports_is_a_report_in_so_many_seconds() -> None:
    device, clock = Device(), FakeClock()
    subject = orders(device, clock)
    assert (await obeyed(subject, "report"))["data"] == {"in_s": 0.0}
    await until(lambda: device.did == ["report"])
    told = [(await obeyed(subject, "report"))["data"]["in_s"] for _ in range(50)]
    assert set(told) == {NudgeLimits().every_s}
    await until(lambda: device.did == ["report"] * 2)
    assert clock.slept == [NudgeLimits().every_s]
    await subject.close()


async def test_what_many_are_told_is_reported_at_different_moments() -> None:
    clock = FakeClock()
    subject = orders(Device(), clock)
    assert 0 < (await obeyed(subject, "report", fleet=True))["data"]["in_s"] < NudgeLimits().jitter_s
    await subject.close()


@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("pin", b"{", "truncated"),
        ("pin", b"[]", "Expected `object`"),
        ("pin", b"x" * 5000, "want at most 4096 bytes, got 5000"),
        ("pin", b"{}", "model: want a model's name, got 'None'"),
        ("pin", b'{"model": "a/b"}', "model: want a model's name, got 'a/b'"),
        ("pin", b'{"model": "m", "version": "7"}', "Expected `int"),
        ("pin", b'{"model": "m", "transaction": "%s"}' % (b"x" * 200), "want at most 128 characters"),
        ("reboot", b"{}", "want one of sync, report, rollback, pin, unpin, got 'reboot'"),
        ("unpin", b'{"model": "m"}', "it failed here, and the log says why"),
    ],
)
async def test_what_makes_no_sense_is_answered_with_what_was_wanted(name: str, payload: bytes, error: str) -> None:
    told = await obeyed(orders(Device()), name, payload)
    assert told["status"] == "error"
    assert error in told["error"]


async def test_a_flood_of_holds_wears_no_flash() -> None:
    device, clock = Device(), FakeClock()
    subject = orders(device, clock)
    told = [await obeyed(subject, "pin", b'{"model": "m"}') for _ in range(50)]
    assert len(device.did) == MAX_HOLDS
    assert told[-1]["error"] == f"too often: want at most one in {HOLD_EVERY_S:g} s"
    await clock.sleep(HOLD_EVERY_S)
    assert (await obeyed(subject, "pin", b'{"model": "m"}'))["status"] == "ok"
    assert (await obeyed(subject, "pin", b'{"model": "m"}'))["status"] == "error"


async def test_a_disk_that_fails_is_said() -> None:
    device = Device()
    device.broken = True
    told = await obeyed(orders(device), "pin", b'{"model": "m"}')
    assert told == {"status": "error", "data": {}, "error": "no space left"}


@given(st.sampled_from(["sync", "pin", "rollback", "x"]), st.binary(max_size=64), st.binary(max_size=8))
async def test_whatever_comes_is_answered(name: str, payload: bytes, correlation: bytes) -> None:
    told = await obeyed(orders(Device(), commands="ask"), name, payload, correlation=correlation)
    assert told["status"] in ("ok", "error")
