"""Lines of log on standard error, for a person or for a collector.

Rule 1: one record is one line, of text or of JSON. Rule 2: a log that cannot be written, or not at once, is dropped and
counted, and nobody above is told: a full disk or a pipe that nobody reads must not cost an answer. Rule 3: nothing is kept back in a buffer, so that nothing is
lost when the power goes, and nothing fails when the interpreter flushes at its end.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

MAX_LINE_CHARS = 64 * 1024

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}


def _time(record: logging.LogRecord) -> str:
    """ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller passed as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
    parts += [formatter.formatStack(record.stack_info)] if record.stack_info else []
    return "\n".join(parts)


def one_line(text: str) -> str:
    """Control characters as escapes, so that a client's words cannot forge a line or steer a terminal."""
    return _CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE key=value …`; a traceback follows in lines of its own only with `tall`."""

    def __init__(self, *, colour: bool = False, tall: bool = False) -> None:
        super().__init__()
        self._colour, self._tall = colour, tall

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:<7}"
        if self._colour and (start := _COLOURS.get(record.levelname)):
            level = f"{start}{level}\033[0m"
        words = [f"{_time(record)} {level} {record.name}: {one_line(record.getMessage())}"]
        words += [f"{one_line(key)}={_value(value)}" for key, value in _extra(record).items()]
        trace = _trace(self, record)
        if trace and not self._tall:
            words.append(f"exception={_value(trace)}")
        line = " ".join(words)
        return f"{line}\n{trace}" if trace and self._tall else line


def _value(value: Any) -> str:
    """A word as it is; anything with blanks or quotes in it as a JSON string."""
    text = str(value)
    return (
        text if re.fullmatch(r"[^\s\"=\x00-\x1f\x7f-\x9f]+", text) else one_line(json.dumps(text, ensure_ascii=False))
    )


class JsonFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, the extra fields, and `exception` as one string."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _extra(record) | {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := _trace(self, record):
            fields["exception"] = trace
        ordered = {key: fields.pop(key) for key in ("time", "level", "logger", "message")} | fields
        try:
            return msgspec.json.encode(ordered, enc_hook=str).decode()
        except (TypeError, ValueError, RecursionError):  # a lone surrogate, keys of a strange type, a loop
            return json.dumps({key: str(value) for key, value in ordered.items()})


class LineHandler(logging.Handler):
    """Each record by one write to the stream's file descriptor; `dropped` counts those that could not be written."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream
        self.dropped = 0
        self._cut = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if len(line) > MAX_LINE_CHARS:
                line = line[:MAX_LINE_CHARS] + "…"
            self._write(line + "\n")
        except Exception:  # whatever it was, it was not worth an answer: rule 2
            self.dropped += 1

    def _write(self, line: str) -> None:
        if self.stream is None:  # standard error was closed before the interpreter started
            raise OSError("no stream")
        try:
            fd = self.stream.fileno()
        except (OSError, ValueError):  # a stream in memory, or one closed since
            self.stream.write(line)
            return
        rest = (b"\n" if self._cut else b"") + line.encode(errors="backslashreplace")
        self._cut = False
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        begun = False
        while rest:
            if not ready.poll(
                0
            ):  # a pipe that nobody reads, a terminal that was stopped: to wait would stop the server
                self._cut = begun
                raise OSError("to write would block")
            # What is ready takes so much without waiting.
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
            begun = True


def set_up(
    level: str = "info",
    form: Literal["text", "json"] = "text",
    *,
    stream: TextIO | None = None,
    env: Mapping[str, str] = os.environ,
) -> LineHandler:
    """Every logger's records go to `stream` (default: standard error), and nowhere else. May be called again."""
    target = sys.stderr if stream is None else stream
    handler = LineHandler(target)
    handler.setFormatter(JsonFormatter() if form == "json" else _text_for(target, env))
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # It tells of every batch of changes on info: on a server whose log lies where it watches, for ever.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    return handler


def set_level(level: str) -> None:
    """`debug`, `info`, `warning` or `error`, until the next `set_up`."""
    logging.getLogger().setLevel(level.upper())


def _text_for(stream: TextIO | None, env: Mapping[str, str]) -> TextFormatter:
    try:
        terminal = stream is not None and stream.isatty()
    except ValueError:
        terminal = False
    return TextFormatter(colour=terminal and "NO_COLOR" not in env and env.get("TERM") != "dumb", tall=terminal)
