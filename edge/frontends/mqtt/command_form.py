"""Commands and their answers as JSON. Pure.

Rule: what is not wanted is refused by name, so that a word with a slip in it does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, get_args

import msgspec

from edge.domain.errors import EdgeError, InvalidInput, TooLarge
from edge.domain.layout import is_model_name
from edge.mqtt.commands import MAX_COMMAND_BYTES, MAX_TRANSACTION_CHARS, Transaction, answer_body
from edge.mqtt.message import Message, Properties
from edge.mqtt.topics import MAX_CORRELATION_BYTES
from edge.wire.reply import JSON
from edge.wire.status import HTTP_STATUS

Name = Literal["load", "unload", "reload", "log-level"]
Level = Literal["debug", "info", "warning", "error"]
NAMES: tuple[Name, ...] = get_args(Name)
AGENTS = ("sync", "rollback", "pin", "unpin", "report")
"""Names of the agent beside the server, which answers them on its own connection."""
LEVELS: tuple[Level, ...] = get_args(Level)

_WANTED: dict[Name, str] = {"load": "model", "unload": "model", "reload": "", "log-level": "level"}


@dataclass(frozen=True, slots=True)
class Command:
    """`argument`: the model of load and unload, the level of log-level; empty for reload."""

    name: Name
    argument: str = ""
    transaction: Transaction = None


def too_long(message: Message) -> EdgeError | None:
    """What is wrong with it, as long as it is; before anything of it is read or kept."""
    if len(message.payload) > MAX_COMMAND_BYTES:
        return TooLarge(f"want a command of at most {MAX_COMMAND_BYTES} bytes, got {len(message.payload)}")
    size = len(message.properties.correlation or b"")
    if size > MAX_CORRELATION_BYTES:
        return InvalidInput(f"want Correlation Data of at most {MAX_CORRELATION_BYTES} bytes, got {size}")
    return None


def read_command(name: str, payload: bytes) -> Command:
    """Of a payload that is not too long. Nothing at all is as good as `{}`. Raises InvalidInput, also for a name that nobody has."""
    if not is_name(name):
        raise InvalidInput(f"{name}: no such command; want {', '.join(NAMES)}, or the agent's {', '.join(AGENTS)}")
    try:
        body: Any = msgspec.json.decode(payload) if payload.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"want a command as JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidInput(f"want a JSON object, got {type(body).__name__}")
    key = _WANTED[name]
    known = [each for each in (key, "transaction") if each]
    if unknown := next((each for each in body if each not in known), None):
        raise InvalidInput(f"{unknown[:64]!r}: no such key of {name}; want {', '.join(known)}")
    return Command(name, _argument(key, body), _transaction(body))


def is_name(name: str) -> TypeGuard[Name]:
    return name in NAMES


def _argument(key: str, body: dict[str, Any]) -> str:
    if not key:
        return ""
    value = body.get(key)
    if key == "model" and (not isinstance(value, str) or not is_model_name(value)):
        raise InvalidInput(f"model: want the name of a model, got {_short(value)}")
    if key == "level" and value not in LEVELS:
        raise InvalidInput(f"level: want one of {', '.join(LEVELS)}, got {_short(value)}")
    return str(value)


def transaction_of(payload: bytes) -> Transaction:
    """Also of a command that is refused, where it can be read: who sent it wants to know what the error answers."""
    if len(payload) > MAX_COMMAND_BYTES:
        return None
    try:
        body: Any = msgspec.json.decode(payload)
        return _transaction(body) if isinstance(body, dict) else None
    except (msgspec.DecodeError, RecursionError, InvalidInput):
        return None


def _transaction(body: dict[str, Any]) -> Transaction:
    value = body.get("transaction")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and len(value) <= MAX_TRANSACTION_CHARS:
        return value
    raise InvalidInput(
        f"transaction: want an integer or a string of at most {MAX_TRANSACTION_CHARS}, got {_short(value)}"
    )


def _short(value: object) -> str:
    return "nothing" if value is None else repr(value)[:80]


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: as HTTP numbers it, for the user property of that name; `code`: of docs/errors.md, empty when it is done."""

    payload: bytes
    status: int = 200
    code: str = ""

    def properties(self, correlation: bytes | None) -> Properties:
        user = [("status", str(self.status))] + ([("error", self.code)] if self.code else [])
        return Properties(correlation=correlation, content_type=JSON, user=tuple(user), text=True)


def done(command: Command, data: dict[str, Any]) -> Answer:
    return Answer(answer_body(data, "", command.transaction))


def refused(error: EdgeError, transaction: Transaction, *, status: int | None = None) -> Answer:
    """`status`: where it is not that of the error's code."""
    return Answer(answer_body({}, error.message, transaction), status or HTTP_STATUS[error.code], error.code.value)


def broken(transaction: Transaction) -> Answer:
    """For a bug, of which nothing is told but that it is one."""
    return Answer(answer_body({}, "internal error", transaction), 500, "internal")
