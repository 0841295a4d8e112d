"""Reads TensorFlow Serving's files: text protobuf, or protobuf's JSON form where one begins with a brace.

Source of the texts: tensorflow_serving/util/proto_util.h, and absl's names of codes, as they are printed there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.config.tfserving.json_form import parse_json
from edge.config.tfserving.messages import Message
from edge.config.tfserving.text import parse_text
from edge.config.tfserving.tokens import TextError
from edge.files import open_regular

MAX_FILE_BYTES = 1 << 20
"""Of one file: some thousands of models."""


class Refused(Exception):
    """Why TensorFlow Serving would not start, or would keep its old config: `code` is canonical, `detail` what its parser
    says on standard error, if anything. As text: `CODE: message`."""

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.detail = code, message, detail


def invalid(message: str, detail: str = "") -> Refused:
    return Refused("INVALID_ARGUMENT", message, detail)


def read_message(path: Path, message: Message) -> dict[str, Any]:
    """What the file says. Blocks. Raises Refused."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise Refused("NOT_FOUND", f"{path}; No such file or directory") from None
    except OSError as error:
        code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "FAILED_PRECONDITION"
        raise Refused(code, f"{path}; {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise invalid(f"Invalid protobuf file: '{path}': want at most {MAX_FILE_BYTES} bytes")
    try:
        return parse_message(raw, message)
    except ValueError as error:
        raise invalid(f"Invalid protobuf file: '{path}'", str(error)) from None


def parse_message(raw: bytes, message: Message) -> dict[str, Any]:
    """Raises ValueError, in the words of TensorFlow Serving's parser."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(10) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        said = f"{line}:{column}: Interpreting non ascii codepoint {raw[error.start]}."
        raise ValueError(f"Error parsing text-format {message.name}: {said}") from None
    if text.lstrip().startswith("{"):
        try:
            return parse_json(text, message)
        except ValueError as error:
            raise ValueError(f"Error parsing JSON {message.name}: {error}") from None
    try:
        return parse_text(text, message)
    except TextError as error:
        raise ValueError(f"Error parsing text-format {message.name}: {error}") from None
