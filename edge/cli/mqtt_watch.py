"""`edge mqtt watch`: what the nodes on a broker say of themselves, as it changes.

Rule: what comes was written by anybody who may publish there; it is bounded, and shown with nothing in it that steers a
terminal.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from edge.domain.layout import is_model_name
from edge.domain.node import NODE
from edge.mqtt.message import Message
from edge.mqtt.topics import PREFIX, PROTOCOL

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_WORD_CHARS = 200
OFFLINE = "offline"
"""What the broker says of a node that went, by the node's last will."""
LOOK_S = 3600.0
"""A wait for the next message; without an end, it begins again."""
MAX_KNOWN = 10_000
"""What is compared with what was said before; of more, the oldest are forgotten."""


class Source(Protocol):
    """edge.mqtt.probe.Probe, as far as it is asked here."""

    async def subscribe(self, topic: str) -> None: ...
    async def next(self, timeout_s: float) -> Message: ...


@dataclass(frozen=True, slots=True)
class Change:
    """What a node says: `what` is status, info or model. `value`: text for status, else JSON; None where it is gone.
    `offline`: the node is not there, and the broker has kept what it said last."""

    node: str
    what: str
    value: Any
    model: str = ""
    offline: bool = False

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        named = {"model": self.model} if self.model else {}
        kept = {"offline": True} if self.offline else {}
        return {"node": self.node, "what": self.what, **named, "value": self.value, **kept}

    def line(self) -> str:
        kept = f"({self.node} is offline)" if self.offline else ""
        return "  ".join(word for word in (self.node, self.model, _shown(self), kept) if word)


def filters(prefix: str, node: str) -> list[str]:
    """`node` empty: those of all."""
    if PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"want a prefix such as edge or site/edge, got {prefix!r}")
    base = f"{prefix}/{PROTOCOL}/{node or '+'}"
    return [f"{base}/status", f"{base}/info", f"{base}/models/+"]


def change_of(prefix: str, message: Message) -> Change | None:
    """None for what is not of the tree's form."""
    levels = message.topic.removeprefix(f"{prefix}/{PROTOCOL}/").split("/")
    if NODE.fullmatch(levels[0]) is None or len(message.payload) > MAX_PAYLOAD_BYTES:
        return None
    if len(levels) == 3 and levels[1] == "models" and is_model_name(levels[2]):
        return Change(levels[0], "model", _json(message.payload), levels[2])
    if levels[1:] == ["info"]:
        return Change(levels[0], "info", _json(message.payload))
    if levels[1:] == ["status"]:
        return Change(levels[0], "status", message.payload.decode(errors="replace")[:MAX_WORD_CHARS])
    return None


async def watch(
    probe: Source, prefix: str, node: str, tell: Callable[[Change], None], *, for_s: float | None = None
) -> None:
    """Until the connection ends, or for so many seconds. What nodes are is heard first, for of those that are offline the
    broker keeps the rest. Raises Lost, NotAllowed, TimeoutError."""
    for topic in filters(prefix, node):
        await probe.subscribe(topic)
    end = None if for_s is None else time.monotonic() + for_s
    last: dict[tuple[str, str, str], tuple[Any, bool]] = {}
    while True:
        try:
            message = await probe.next(LOOK_S if end is None else end - time.monotonic())
        except TimeoutError:
            if end is not None:
                return
            continue
        change = change_of(prefix, message)
        if change is None:
            continue
        if change.what != "status" and last.get((change.node, "status", "")) == (OFFLINE, False):
            change = replace(change, offline=True)
        key = (change.node, change.what, change.model)
        if key not in last or last[key] != (change.value, change.offline):
            last[key] = change.value, change.offline
            if len(last) > MAX_KNOWN:
                del last[next(iter(last))]
            tell(change)


def _json(payload: bytes) -> Any:
    if not payload:
        return None
    try:
        return json.loads(payload, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return {"unreadable": payload[:MAX_WORD_CHARS].decode(errors="replace")}


def _finite(text: str) -> float:
    """Raises ValueError for what is no number of JSON's, or none that can be said in it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"want a number, got {text[:40]}")
    return number


def _shown(change: Change) -> str:
    value = change.value
    if value is None:
        return "is gone"
    if change.what == "status" or not isinstance(value, dict):
        return str(value)[:MAX_WORD_CHARS]
    if change.what == "model":
        words = [value.get("state"), f"version {value['version']}" if value.get("version") else "", value.get("device")]
        words.append(value.get("error"))
    else:
        api = value.get("api")
        words = [
            value.get("state"),
            f"edge {value.get('version', '?')}",
            api.get("http") if isinstance(api, dict) else api,
        ]
    return ", ".join(str(word)[:MAX_WORD_CHARS] for word in words if word)
