"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from edge.client import calls
from edge.client.address import parse
from edge.client.attempts import Retries
from edge.client.body import MAX_ANSWER_BYTES
from edge.client.calls import Answer, Ask, Call, Choice, Health, Metadata, ModelVersion, Wish
from edge.client.client import TIMEOUT_S, Inputs
from edge.client.errors import ClientError
from edge.client.secrets import checked_token, context
from edge.client.wire import Prediction

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

T = TypeVar("T")


class AsyncClient:
    """`Client` for one event loop, any number of whose tasks may share it; close it, or use `async with`.

    Arguments, results and errors are those of `Client`.
    """

    def __init__(
        self,
        url: str = "http://localhost:8501",
        *,
        token: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        from edge.client.awaited import Transport

        address = parse(url)
        self.url, self._timeout_s, self._retries = url, timeout_s, retries
        self._transport = Transport(address, context(address, ca_file), checked_token(token), max_answer_bytes)
        self._known = calls.KnownInputs()

    @classmethod
    async def discover(
        cls,
        *,
        model: str | None = None,
        within_s: float = 5.0,
        interfaces: Sequence[str] = (),
        token: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> AsyncClient:
        """As `Client.discover`."""
        from edge.client.discovery import first

        node = await first(model=model, within_s=within_s, interfaces=interfaces, token=token, ca_file=ca_file)
        return cls(node.url, token=token if node.tls else None, ca_file=ca_file, timeout_s=timeout_s)

    async def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
        dequantize: bool | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        wish = Wish(version, label, outputs, dequantize)
        return await self._run(calls.predict(self._known, model, inputs, wish), timeout_s)

    async def predict_json(
        self,
        model: str,
        instances: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        return await self._run(calls.predict_json(model, instances, Wish(version, label), signature), timeout_s)

    async def classify(
        self,
        model: str,
        image: bytes | str | PathLike[str],
        *,
        top: int = 3,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> list[Choice]:
        content = image if isinstance(image, bytes) else await asyncio.to_thread(calls.picture, image)
        return await self._run(calls.classify(model, content, Wish(version, label), top), timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> list[ModelVersion]:
        return await self._run(calls.models(), timeout_s)

    async def metadata(self, model: str, *, version: int | None = None, timeout_s: float | None = None) -> Metadata:
        return await self._run(calls.metadata(model, version), timeout_s)

    async def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        return await self._run(calls.ready(model), timeout_s)

    async def health(self, *, timeout_s: float | None = None) -> Health:
        return await self._run(calls.health(), timeout_s)

    async def _run(self, call: Call[T], timeout_s: float | None) -> T:
        deadline = monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        try:
            ask = next(call)
            while True:
                try:
                    answer = await self._ask(ask, deadline)
                except ClientError as error:
                    ask = call.throw(error)
                else:
                    ask = call.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _ask(self, ask: Ask, deadline: float) -> Answer:
        attempt = 1
        while True:
            try:
                return await self._transport.ask(ask, deadline)
            except ClientError as error:
                wait_s = self._retries.wait_s(error, attempt, deadline - monotonic())
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)
            attempt += 1

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
