"""What a message asks, and where its answer goes. Pure.

Rule 1: nothing is computed for a request that cannot be answered, and nothing is published where nobody allowed it. Rule 2:
with a Response Topic (MQTT 5) the Correlation Data come back as they came; without, the topic's own levels say where to
(`…/req/{client}/{id}`). Rule 3: a Message Expiry is the deadline, and nobody waits any more when it is over.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from edge.domain.errors import InvalidInput, TooLarge
from edge.domain.layout import version_of
from edge.domain.models import MAX_VERSION, ModelSpec
from edge.frontends.mqtt.limits import MqttLimits
from edge.mqtt.message import Message, Properties
from edge.mqtt.topics import MAX_CORRELATION_BYTES, Infer, Tree, reply_problem


class Dropped(Enum):
    """Why a message was not answered; the values are a metric's label."""

    NO_REPLY_TO = "no_reply_to"
    REPLY_REFUSED = "reply_refused"
    RETAINED = "retained"
    EXPIRED = "expired"
    UNKNOWN_TOPIC = "unknown_topic"


class ReplyTo(NamedTuple):
    """`topic` for an answer, `error_topic` for an error. `correlation` None: there is none, the topic says it."""

    topic: str
    error_topic: str
    correlation: bytes | None
    qos: int
    in_properties: bool
    """Whether the answer may say things beside its payload: the client has shown that it speaks MQTT 5."""


class Ask(NamedTuple):
    """One request. `deadline` and `expires` are readings of the loop's clock, in seconds; `expires` None: the client waits
    for as long as it takes. `shared`: it came to a pool, and might have come to another server."""

    spec: ModelSpec
    to: ReplyTo
    message: Message
    began: float
    deadline: float
    expires: float | None
    shared: bool = False


NOBODY = ReplyTo("", "", None, 0, False)
"""For a request that is run for those who listen to results."""


class UserProperties:
    """A message's, as what a request carries beside its payload."""

    __slots__ = ("_properties",)

    def __init__(self, properties: Properties) -> None:
        self._properties = properties

    def get(self, name: bytes, /) -> bytes | None:
        wanted = name.decode("latin-1")
        for key, value in self._properties.user:
            if key.lower() == wanted:
                return value.encode("utf-8", "surrogatepass")
        return None


def reply_to(message: Message, asked: Infer, tree: Tree, allowed: tuple[str, ...]) -> ReplyTo | Dropped:
    qos = min(message.qos, 1)
    topic = message.properties.response_topic
    if topic is not None:
        if reply_problem(topic, allowed):
            return Dropped.REPLY_REFUSED
        return ReplyTo(topic, topic, message.properties.correlation, qos, True)
    if asked.reply is not None:
        return ReplyTo(tree.reply(asked.reply), tree.reply_error(asked.reply), None, qos, False)
    return Dropped.NO_REPLY_TO


def ask_of(message: Message, asked: Infer, to: ReplyTo, limits: MqttLimits, now: float) -> Ask:
    """`now` is the loop's time, in seconds, at which the message came. Never raises: see `check`."""
    expiry_s = message.properties.expiry_s
    timeout_s = limits.request_timeout_s if expiry_s is None else float(expiry_s)
    expires = None if expiry_s is None else now + expiry_s
    shared = asked.pool is not None
    return Ask(ModelSpec(asked.model, asked.version), to, message, now, now + timeout_s, expires, shared)


def check(ask: Ask, limits: MqttLimits) -> ModelSpec:
    """The model that is asked for, with what the user properties say of it. Raises InvalidInput, TooLarge."""
    properties = ask.message.properties
    if ask.to.in_properties:
        size = len(ask.to.correlation or b"")
        if not 0 < size <= MAX_CORRELATION_BYTES:
            raise InvalidInput(f"want Correlation Data of 1 to {MAX_CORRELATION_BYTES} bytes, got {size}")
    if len(ask.message.payload) > limits.max_payload_bytes:
        raise TooLarge(
            f"want a payload of at most {limits.max_payload_bytes} bytes (mqtt.max_payload_bytes), "
            f"got {len(ask.message.payload)}"
        )
    version, label = properties.first("version"), properties.first("label")
    if version is None and label is None:
        return ask.spec
    if (version is not None) + (label is not None) + (ask.spec.version is not None) > 1:
        raise InvalidInput("want one of a version in the topic, a user property version, and one label; got several")
    if label is not None:
        return ModelSpec(ask.spec.name, None, label)
    number = version_of(version or "")
    if number is None:
        raise InvalidInput(f"version: want a whole number of at most {MAX_VERSION}, got {(version or '')[:40]!r}")
    return ModelSpec(ask.spec.name, number)
