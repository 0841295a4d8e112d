"""The client for callers that wait."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from os import PathLike
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from edge.client import calls
from edge.client.address import parse
from edge.client.attempts import Retries
from edge.client.body import MAX_ANSWER_BYTES
from edge.client.calls import Answer, Ask, Call, Choice, Health, Metadata, ModelVersion, Wish
from edge.client.errors import ClientError
from edge.client.secrets import checked_token, context
from edge.client.wire import Prediction

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

T = TypeVar("T")
Inputs = Mapping[str, npt.ArrayLike] | npt.ArrayLike
TIMEOUT_S = 30.0


class Client:
    """One server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`. Threads may share it; close it, or use `with`.

    token: shown with every request; ca_file: certificates to trust beside the system's; timeout_s: for a whole call, what
    is tried again included, unless the call says another. Raises ValueError for a URL that is none, OSError for a ca_file.
    Every call raises ClientError, and nothing else of its own.
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
        from edge.client.blocking import Transport

        address = parse(url)
        self.url, self._timeout_s, self._retries = url, timeout_s, retries
        self._transport = Transport(address, context(address, ca_file), checked_token(token), max_answer_bytes)
        self._known = calls.KnownInputs()

    @classmethod
    def discover(
        cls,
        *,
        model: str | None = None,
        within_s: float = 5.0,
        interfaces: Sequence[str] = (),
        token: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Client:
        """The first server of the local network that answers, and that has `model` ready if one is named.

        A token is shown to servers with TLS and a certificate that is trusted, and to no others: anybody may announce
        themselves. Raises NotFound where there is none within `within_s` seconds, Unreachable without a network.
        """
        from edge.client.discovery import first_blocking

        node = first_blocking(model=model, within_s=within_s, interfaces=interfaces, token=token, ca_file=ca_file)
        return cls(node.url, token=token if node.tls else None, ca_file=ca_file, timeout_s=timeout_s)

    def predict(
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
        """Arrays by the names of the model's inputs, or one array where it has one input → arrays by its outputs' names.

        Types and shapes are the model's (`metadata`); strings are arrays of `str` or `bytes`, and come back as `bytes`.
        outputs: names, None for all. dequantize: whether a quantized model's tensors are floats here; None: as the server
        is configured. What comes back is the caller's to keep and to write to.
        """
        wish = Wish(version, label, outputs, dequantize)
        return self._run(calls.predict(self._known, model, inputs, wish), timeout_s)

    def predict_json(
        self,
        model: str,
        instances: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Rows as TensorFlow Serving's REST API has them → the predictions, one for each."""
        return self._run(calls.predict_json(model, instances, Wish(version, label), signature), timeout_s)

    def classify(
        self,
        model: str,
        image: bytes | str | PathLike[str],
        *,
        top: int = 3,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> list[Choice]:
        """A JPEG or PNG, as bytes or as a file's path → its `top` best classes, best first. Raises OSError for a file."""
        content = calls.picture(image)
        return self._run(calls.classify(model, content, Wish(version, label), top), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> list[ModelVersion]:
        """Every version that the server knows, and its state."""
        return self._run(calls.models(), timeout_s)

    def metadata(self, model: str, *, version: int | None = None, timeout_s: float | None = None) -> Metadata:
        """A model's inputs, outputs and ready versions."""
        return self._run(calls.metadata(model, version), timeout_s)

    def ready(self, model: str | None = None, *, timeout_s: float | None = None) -> bool:
        """Whether one model, or every model that should be served, answers."""
        return self._run(calls.ready(model), timeout_s)

    def health(self, *, timeout_s: float | None = None) -> Health:
        return self._run(calls.health(), timeout_s)

    def _run(self, call: Call[T], timeout_s: float | None) -> T:
        deadline = monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        try:
            ask = next(call)
            while True:
                try:
                    answer = self._ask(ask, deadline)
                except ClientError as error:
                    ask = call.throw(error)
                else:
                    ask = call.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    def _ask(self, ask: Ask, deadline: float) -> Answer:
        attempt = 1
        while True:
            try:
                return self._transport.ask(ask, deadline)
            except ClientError as error:
                wait_s = self._retries.wait_s(error, attempt, deadline - monotonic())
                if wait_s is None:
                    raise
            time.sleep(wait_s)
            attempt += 1

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
