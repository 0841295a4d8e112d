"""Requests: read, predict, write, publish, and the ack right behind.

Rule 1: what is acked has been answered, or never will be: the answer is handed to the link before the ack. Rule 2: QoS 0 is
answered at once when the server is full; with QoS 1 the broker holds back what is above Receive Maximum, and an answer that
finds no room to wait in is waited with. Rule 3: nobody is answered for whom it is too late. Rule 4: while the server goes down,
what came with QoS 1 for this node stays unacked where the broker keeps sessions, and is answered after the next start; what was
shared with it before it said so is answered as ever, and everything else is told to come back. Rule 5: what comes with QoS 1 while the server starts waits for its models.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

import msgspec

from edge.domain.errors import Code, DeadlineExceeded, EdgeError, InferenceFailed, NotReady, Overloaded
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog, Predictor
from edge.domain.requests import PredictRequest, PredictResponse
from edge.frontends.http.admission import Admission
from edge.frontends.http.eager import start
from edge.frontends.mqtt.answers import Answered, Outcome, answer_properties, seconds_left
from edge.frontends.mqtt.asking import NOBODY, Ask, Dropped, UserProperties, ask_of, check, reply_to
from edge.frontends.mqtt.limits import MqttLimits
from edge.frontends.mqtt.reading import Form, Read, error_words, form_of, read
from edge.frontends.mqtt.replays import Answer, Key, Replays, key_of
from edge.mqtt.link import Link
from edge.mqtt.message import NO_PROPERTIES, Message
from edge.mqtt.topics import Infer, Tree
from edge.wire.reply import JSON

log = logging.getLogger(__name__)

PROTOCOL = "mqtt"
INTERNAL = "internal"
RETRY_S = 1.0


class Starting(Catalog, Protocol):
    """The catalog, and when the start is over."""

    @property
    def starting(self) -> bool: ...
    async def changed(self) -> None:
        """Returns when anything may have changed."""
        ...


class Inference:
    """`dropped(reason)` and `refused(protocol, code)` count; `answered` is told of every answer."""

    def __init__(
        self,
        *,
        link: Link,
        tree: Tree,
        limits: MqttLimits,
        predictor: Predictor,
        catalog: Starting,
        admission: Admission,
        refused: Callable[[str, str], None],
        dropped: Callable[[str], None],
    ) -> None:
        self._link, self._tree, self._limits = link, tree, limits
        self._predictor, self._catalog, self._admission = predictor, catalog, admission
        self._refused, self._dropped = refused, dropped
        self._allowed = limits.reply_allow or (tree.reply_filter,)
        self._replays = Replays(limits.max_replays, limits.max_replay_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._loop = asyncio.get_running_loop()
        self.draining = False
        self.answered: list[Callable[[Answered], None]] = []

    def came(self, message: Message) -> None:
        """A message to one of the topics for requests."""
        asked = self._tree.parse(message.topic)
        if not isinstance(asked, Infer) or (asked.pool is not None and asked.pool not in self._limits.pools):
            self._drop(message, Dropped.UNKNOWN_TOPIC)
        elif message.retain:
            self._drop(message, Dropped.RETAINED)
        else:
            self._take(message, asked)

    async def finish(self, within_s: float) -> None:
        """What is being answered, within so many seconds; then it is given up, and stays unacked."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        for task in self._tasks:
            task.cancel()

    def _take(self, message: Message, asked: Infer) -> None:
        if self.draining and message.qos and asked.pool is None and self._link.protocol == "5":
            return
        to = reply_to(message, asked, self._tree, self._allowed)
        if to is Dropped.NO_REPLY_TO and self._limits.run_unasked:
            to = NOBODY
        if isinstance(to, Dropped):
            self._drop(message, to)
            return
        ask = ask_of(message, asked, to, self._limits, self._loop.time())
        key = None
        if message.qos:
            key = key_of(message, to.topic, to.correlation)
            if message.dup and self._replayed(key, message):
                return
            self._replays.begin(key)
        going = start(self._serve(ask, key), self._loop, lambda _: None)
        if going is not None:
            self._tasks.add(going)
            going.add_done_callback(self._tasks.discard)

    def _replayed(self, key: Key, message: Message) -> bool:
        if self._replays.join(key, message):
            return True
        answer = self._replays.find(key, self._loop.time())
        if answer is None:
            return False
        left = replace(answer.properties, expiry_s=seconds_left(answer.until, self._loop.time()))
        if not self._link.publish(answer.topic, answer.payload, qos=answer.qos, properties=left):
            return False  # there is no room now: it is answered as one that is new
        self._link.ack(message)
        return True

    def _drop(self, message: Message, why: Dropped) -> None:
        self._dropped(why.value)
        self._link.ack(message)

    async def _serve(self, ask: Ask, key: Key | None) -> None:
        answer = None
        try:
            outcome = await self._outcome(ask)
            answer = await self._publish(ask, outcome)
        except Exception:
            log.exception("%s: an answer was not published", ask.message.topic)
        except asyncio.CancelledError:
            if key is not None:
                self._replays.end(key, None)
            raise
        self._link.ack(ask.message)
        if key is not None:
            for other in self._replays.end(key, answer):
                self._link.ack(other)

    async def _outcome(self, ask: Ask) -> Outcome:
        """Never raises but for a cancellation."""
        reading = _Reading(ask.spec)
        try:
            response = await self._predicted(ask, reading)
            return await self._written(ask, reading, response)
        except EdgeError as error:
            if not reading.predicting or error.code is Code.NOT_FOUND:  # no version of it was there to count it
                self._refused(PROTOCOL, error.code.value)
            if isinstance(error, InferenceFailed):
                log.error("%s: %s", ask.spec.name, error.message)
            status, body = error_words(error, reading.read, reading.form, reading.spec)
            retry_s = error.retry_after_s if isinstance(error, Overloaded) else None
            if isinstance(error, NotReady) and self.draining:
                retry_s = RETRY_S
            return Outcome(status, error.code.value, {"Content-Type": JSON}, body, retry_s=retry_s)
        except Exception:
            log.exception("%s: internal error", ask.message.topic)
            body = msgspec.json.encode({"error": "internal error"})
            return Outcome(500, INTERNAL, {"Content-Type": JSON}, body)

    async def _predicted(self, ask: Ask, reading: _Reading) -> PredictResponse:
        payload = ask.message.payload
        if self.draining and not ask.shared:
            raise NotReady("the server is going down")
        if self._held + len(payload) > self._limits.max_held_bytes:
            raise Overloaded("too many bytes of requests are held (server.max_inflight_body_bytes)")
        self._held += len(payload)
        try:
            with self._admission:
                reading.spec = check(ask, self._limits)
                if self._loop.time() >= ask.deadline:
                    raise DeadlineExceeded("the request's time was up when it came")
                reading.form = form_of(payload, ask.message.properties)
                reading.read = found = await self._read(ask, reading.form, reading.spec)
                deadline = ask.deadline
                if found.timeout_s is not None:
                    deadline = min(deadline, ask.began + found.timeout_s)
                asked = reading.spec, found.payload, found.signature_name, found.dequantize, deadline
                wish = PredictRequest(*asked, PROTOCOL, carried=UserProperties(ask.message.properties))
                if self._catalog.starting and ask.message.qos:
                    await self._until_started(deadline)
                reading.predicting = True
                return await self._predictor.predict(wish)
        finally:
            self._held -= len(payload)

    async def _until_started(self, deadline: float) -> None:
        """What the broker kept while the server was away comes before the models are there, and waits for them."""
        while self._catalog.starting and self._loop.time() < deadline:
            await self._until(self._catalog.changed(), max(0.0, deadline - self._loop.time()))

    async def _until(self, comes: Coroutine[Any, Any, None], timeout_s: float | None) -> None:
        """Also in the eager part of a task, which asyncio.timeout would take for whoever started it."""
        waiting = self._loop.create_task(comes)
        try:
            await asyncio.wait((waiting,), timeout=timeout_s)
        finally:
            waiting.cancel()

    async def _read(self, ask: Ask, form: Form, spec: ModelSpec) -> Read:
        properties, payload = ask.message.properties, ask.message.payload
        binary = ask.to.in_properties
        if self._admission.is_small(form.head):
            return read(payload, properties, form, spec, self._outputs_of, binary=binary)
        return await self._admission.aside(
            ask.deadline, read, payload, properties, form, spec, self._outputs_of, binary=binary
        )

    async def _written(self, ask: Ask, reading: _Reading, response: PredictResponse) -> Outcome:
        assert reading.read is not None
        if self._admission.is_small(response.nbytes):
            headers, body = reading.read.encode(response)
        else:
            headers, body = await self._admission.aside(ask.deadline, reading.read.encode, response)
        return Outcome(200, "", headers, body, response)

    def _outputs_of(self, spec: ModelSpec) -> tuple[str, ...]:
        return tuple(self._catalog.describe(spec).default_signature.outputs)

    async def _publish(self, ask: Ask, outcome: Outcome) -> Answer | None:
        """What was published. It waits for room with QoS 1, for as long as anybody waits for the answer."""
        answer = self._answer(ask, outcome)
        while answer is not None and not self._sent(answer, ask.message) and answer.qos:
            timeout_s = None if ask.expires is None else max(0.0, ask.expires - self._loop.time())
            await self._until(self._link.room(), timeout_s)
            answer = self._answer(ask, outcome)
        if answer is None:
            self._dropped(Dropped.EXPIRED.value)
            return None
        if self.answered:
            self._tell(Answered(ask.spec.name, outcome.version, outcome.status, outcome.headers, outcome.payload))
        return answer if answer.topic else None

    def _tell(self, told: Answered) -> None:
        for listener in self.answered:
            try:
                listener(told)
            except Exception:
                log.exception("a listener to answers failed")

    def _answer(self, ask: Ask, outcome: Outcome) -> Answer | None:
        """As it is to be published now; None where it is too late."""
        now = self._loop.time()
        if ask.expires is not None and now >= ask.expires:
            return None
        until = now + self._limits.request_timeout_s if ask.expires is None else ask.expires
        properties = NO_PROPERTIES
        if ask.to.in_properties:
            expiry_s, took_s = seconds_left(until, now), monotonic() - ask.message.received_at
            properties = answer_properties(ask, outcome, self._tree.node, expiry_s=expiry_s, took_s=took_s)
        topic = ask.to.error_topic if outcome.code else ask.to.topic
        return Answer(topic, outcome.payload, ask.to.qos, properties, until)

    def _sent(self, answer: Answer, asked: Message) -> bool:
        if not answer.topic:
            return True
        topic, payload, properties = answer.topic, answer.payload, answer.properties
        return self._link.publish(topic, payload, qos=answer.qos, properties=properties, answers=asked)


class _Reading:
    """How far a request has come, for the words of its error."""

    __slots__ = ("form", "predicting", "read", "spec")

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.form: Form | None = None
        self.read: Read | None = None
        self.predicting = False
