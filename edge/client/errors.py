"""What may come of a call that is not its result.

ClientError
├── Invalid                      the request is wrong; sending it again will not help
│   └── TooLarge                 a bound on size was passed, the server's or this client's
├── NotFound                     no such model, or no such version of it; by discovery, no server that has it
├── Unauthenticated              a token is wanted, or another one
├── Forbidden
├── NotReady                     it is there, and cannot answer yet or any more
│   └── Overloaded               full; `retry_after_s` says when to come back
├── DeadlineExceeded             the server's time or the caller's was up
├── ServerFailed                 the model or the server failed on this request
├── Unreachable                  no connection, or one that broke off
└── BadAnswer                    what came is not what the protocol says

Rule: where the server said something, the text is its own, and `status` is HTTP's; else `status` is None.
"""

from __future__ import annotations

import json
import math

MAX_TEXT_CHARS = 2048
MAX_ERROR_BYTES = 64 * 1024


class ClientError(Exception):
    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status = message, status


class Invalid(ClientError): ...


class TooLarge(Invalid): ...


class NotFound(ClientError): ...


class Unauthenticated(ClientError): ...


class Forbidden(ClientError): ...


class NotReady(ClientError): ...


class Overloaded(NotReady):
    def __init__(self, message: str, status: int | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, status)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ClientError): ...


class ServerFailed(ClientError): ...


class Unreachable(ClientError):
    """`unsent`: nothing of the request had gone out, so that to ask again is to ask once."""

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


class BadAnswer(ClientError): ...


_BY_STATUS: dict[int, type[ClientError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: DeadlineExceeded,
    413: TooLarge,
    431: TooLarge,
    503: NotReady,
    504: DeadlineExceeded,
}


def error_of(status: int, retry_after: str, body: bytes | bytearray | memoryview) -> ClientError:
    """The error that an answer other than 2xx stands for. retry_after: the header's value, empty for none."""
    text = _text(bytes(body[:MAX_ERROR_BYTES])) or f"HTTP {status}"
    if 300 <= status < 400:
        return BadAnswer(f"want an answer, got a redirection (HTTP {status}), which is not followed", status)
    if status == 503 and (wait_s := _seconds(retry_after)) is not None:
        return Overloaded(text, status, retry_after_s=wait_s)
    kind = _BY_STATUS.get(status) or (Invalid if 400 <= status < 500 or status == 501 else ServerFailed)
    return kind(text, status)


def _seconds(text: str) -> float | None:
    """The seconds of a Retry-After; a date is none."""
    if not text.isascii() or len(text) > 9:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _text(body: bytes) -> str:
    """`{"error": …}`'s text, else the beginning of whatever came, with nothing in it that could steer a terminal."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, RecursionError, KeyError, TypeError):
        text = body.decode(errors="replace").strip()
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text[:MAX_TEXT_CHARS])
