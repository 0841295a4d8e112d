"""Commands that come by MQTT: what they ask, whether it is done, and the answer.

Rule 1: nobody has signed them. None brings anything here that is not signed; `rollback`, `pin` and `unpin` choose among what is here
already, and only where this device is told to obey them. Rule 2: one that comes twice is done once, and answered twice. Rule 3: what
many devices are told at once and costs somebody else something is done at different moments.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from edge.domain.layout import is_model_name
from edge.mqtt.commands import MAX_COMMAND_BYTES, MAX_TRANSACTION_CHARS, Transaction, answer_body
from sync.agent.asked import Asked
from sync.agent.nudges import NudgeLimits
from sync.domain.errors import OperatorError, SyncError
from sync.domain.journal import Held
from sync.domain.ports import Clock

log = logging.getLogger(__name__)

MAX_ANSWERS = 128
"""Commands that are known when they come again."""
MAX_HOLDS = 10
"""Commands that are written down, at once; each HOLD_EVERY_S there may be one more, for every one wears the flash."""
HOLD_EVERY_S = 10.0

ASK = ("sync", "report")
HOLD = ("rollback", "pin", "unpin")
OBEYED: Mapping[str, tuple[str, ...]] = {"off": (), "ask": ASK, "all": (*ASK, *HOLD)}
"""By what `mqtt.commands` may be."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str | None = None
    version: int | None = None
    transaction: Transaction = None


class Device(Protocol):
    """What obeys. Each raises OperatorError, DiskError."""

    async def report_now(self) -> None: ...
    async def pin(self, model: str, version: int | None = None) -> Held: ...
    async def roll_back(self, model: str) -> Held: ...
    async def unpin(self, model: str) -> bool: ...


class Orders:
    """commands: which are obeyed."""

    def __init__(
        self,
        device: Device,
        asked: Asked,
        clock: Clock,
        *,
        commands: Literal["off", "ask", "all"],
        limits: NudgeLimits,
        chance: random.Random | None = None,
    ) -> None:
        self._device, self._asked, self._clock = device, asked, clock
        self._commands, self._limits, self._chance = commands, limits, chance or random.Random()
        self._answers: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._report: asyncio.Task[None] | None = None
        self._reported_at = -limits.every_s
        self._holds, self._held_at = float(MAX_HOLDS), clock.monotonic()
        self._doers: Mapping[str, Callable[[Order, bool], Awaitable[dict[str, Any]]]] = {
            "sync": self._sync,
            "report": self._send_report,
            "rollback": self._roll_back,
            "pin": self._pin,
            "unpin": self._unpin,
        }

    async def obey(self, name: str, payload: bytes, *, fleet: bool, correlation: bytes = b"") -> bytes:
        """The answer. fleet: other devices are told the same. Raises nothing that a message can cause."""
        order, problem = _parsed(payload)
        key = (name, correlation or _known_by(order.transaction))
        if key[1] and key in self._answers:
            return self._answers[key]
        data: dict[str, Any] = {}
        try:
            if problem:
                raise OperatorError(problem)
            data = await self._do(name, order, fleet=fleet)
        except SyncError as error:
            problem = error.message
        except Exception:
            log.exception("the command %s failed", name)
            problem = "it failed here, and the log says why"
        answer = answer_body(data, problem, order.transaction)
        if key[1]:
            self._answers[key] = answer
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    async def close(self) -> None:
        if self._report is not None:
            self._report.cancel()
            await asyncio.gather(self._report, return_exceptions=True)

    async def _do(self, name: str, order: Order, *, fleet: bool) -> dict[str, Any]:
        """Raises SyncError."""
        if name not in self._doers:
            raise OperatorError(f"want one of {', '.join(self._doers)}, got {name[:40]!r}")
        if name not in OBEYED[self._commands]:
            raise OperatorError(f"this device does not obey {name}: mqtt.commands is {self._commands!r}")
        if name in HOLD and not self._may_write():
            raise OperatorError(f"too often: want at most one in {HOLD_EVERY_S:g} s")
        return await self._doers[name](order, fleet)

    def _may_write(self) -> bool:
        now = self._clock.monotonic()
        self._holds = min(self._holds + (now - self._held_at) / HOLD_EVERY_S, float(MAX_HOLDS))
        self._held_at = now
        if self._holds < 1:
            return False
        self._holds -= 1
        return True

    async def _sync(self, order: Order, fleet: bool) -> dict[str, Any]:
        return {"in_s": round(self._asked.poll(fleet=fleet), 1)}

    async def _send_report(self, order: Order, fleet: bool) -> dict[str, Any]:
        now = self._clock.monotonic()
        jitter_s = self._limits.jitter_s * self._chance.random() if fleet else 0.0
        wait_s = max(jitter_s, self._reported_at + self._limits.every_s - now, 0.0)
        if self._report is None or self._report.done():
            self._reported_at = now + wait_s
            self._report = asyncio.ensure_future(self._report_in(wait_s))
        return {"in_s": round(max(self._reported_at - now, 0.0), 1)}

    async def _report_in(self, wait_s: float) -> None:
        if wait_s:
            await self._clock.sleep(wait_s)
        await self._device.report_now()

    async def _roll_back(self, order: Order, fleet: bool) -> dict[str, Any]:
        model = _model(order)
        return {"model": model, "held": (await self._device.roll_back(model)).version}

    async def _pin(self, order: Order, fleet: bool) -> dict[str, Any]:
        model = _model(order)
        return {"model": model, "held": (await self._device.pin(model, order.version)).version}

    async def _unpin(self, order: Order, fleet: bool) -> dict[str, Any]:
        model = _model(order)
        return {"model": model, "held": None, "was": await self._device.unpin(model)}


def _parsed(payload: bytes) -> tuple[Order, str]:
    """The order, and what is wrong with it, "" for nothing."""
    try:
        if len(payload) > MAX_COMMAND_BYTES:
            raise ValueError(f"want at most {MAX_COMMAND_BYTES} bytes, got {len(payload)}")
        order = msgspec.json.decode(payload, type=Order) if payload.strip() else Order()
        if len(str(order.transaction)) > MAX_TRANSACTION_CHARS:
            raise ValueError(f"transaction: want at most {MAX_TRANSACTION_CHARS} characters")
    except (ValueError, RecursionError) as error:
        return Order(), str(error)
    return order, ""


def _model(order: Order) -> str:
    """Raises OperatorError."""
    if order.model is None or not is_model_name(order.model):
        raise OperatorError(f"model: want a model's name, got {str(order.model)[:80]!r}")
    return order.model


def _known_by(transaction: Transaction) -> bytes:
    """Empty for none: a command that cannot be known when it comes again."""
    return b"" if transaction is None else str(transaction).encode()
