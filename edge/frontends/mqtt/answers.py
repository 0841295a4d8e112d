"""Answers: what is published beside their payload, and what those who listen are told of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edge.domain.requests import PredictResponse
from edge.frontends.mqtt.asking import Ask
from edge.frontends.mqtt.reading import HEADER_LENGTH
from edge.mqtt.message import Properties
from edge.mqtt.topics import MAX_CORRELATION_BYTES
from edge.wire.reply import JSON


class Outcome(NamedTuple):
    """An answer that is ready to be published. `code` is empty for a success."""

    status: int
    code: str
    headers: dict[str, str]
    payload: bytes
    response: PredictResponse | None = None
    retry_s: float | None = None

    @property
    def version(self) -> int | None:
        return self.response.model.version if self.response is not None else None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, for those who listen. `status` and `headers` as HTTP's; `version` None where no version answered."""

    model: str
    version: int | None
    status: int
    headers: Mapping[str, str]
    payload: bytes


def seconds_left(until: float, now: float) -> int:
    """As a Message Expiry: whole, and one at least."""
    return max(1, math.ceil(until - now))


def answer_properties(ask: Ask, outcome: Outcome, node: str, *, expiry_s: int, took_s: float) -> Properties:
    """`took_s`: seconds since the request came."""
    said = [("status", str(outcome.status)), ("model", ask.spec.name), ("node", node)]
    if outcome.code:
        said.append(("error", outcome.code))
    if outcome.response is not None:
        said.append(("version", str(outcome.version)))
        said.append(("queue-ms", f"{outcome.response.queue_s * 1000:.3f}"))
    said.append(("duration-ms", f"{took_s * 1000:.3f}"))
    if outcome.retry_s is not None:
        said.append(("retry-after-ms", str(math.ceil(outcome.retry_s * 1000))))
    said += header_length(outcome.headers)
    content_type, correlation = outcome.headers["Content-Type"], ask.to.correlation
    return Properties(
        correlation=correlation if correlation is None or len(correlation) <= MAX_CORRELATION_BYTES else None,
        expiry_s=expiry_s,
        content_type=content_type,
        user=tuple(said),
        text=content_type == JSON,
    )


def event_properties(answered: Answered, node: str) -> Properties:
    """Of the same answer, once more for whoever listens."""
    said = [("model", answered.model), ("version", str(answered.version)), ("node", node)]
    content_type = answered.headers.get("Content-Type", JSON)
    user = tuple(said + header_length(answered.headers))
    return Properties(content_type=content_type, user=user, text=content_type == JSON)


def header_length(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Where the JSON before a payload's tensors ends, as a user property; none for a payload that is all of one kind."""
    return [(HEADER_LENGTH, value) for name, value in headers.items() if name.lower() == HEADER_LENGTH]
