"""Words of protobuf's text format, each with the place where it begins.

Source: https://protobuf.dev/reference/protobuf/textformat-spec/; the texts and places of errors are those of
google/protobuf/io/tokenizer.cc, with which TensorFlow Serving reads. Rule: one pass, no backtracking, no recursion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SPACE = re.compile(r"(?:[ \t\r\n\v\f]+|#[^\n]*)*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FLOAT = re.compile(r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?[fF]?|[0-9]+[fF]", re.ASCII)
_INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+", re.ASCII)
_STRING = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL) for quote in "\"'"}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?'\"])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U(00[01][0-9a-fA-F]{5})|(.|\Z))",
    re.DOTALL,
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "?": 63, "'": 39, '"': 34}
_TAB = 8
END = "end"


class TextError(Exception):
    """`line` and `column` are counted from 1. As text: `line:column: message`."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line, self.column, self.message = line, column, message


@dataclass(frozen=True, slots=True)
class Token:
    """`kind`: identifier, integer, float, string, symbol or end. `text` is as written, quotes included."""

    kind: str
    text: str
    offset: int


def tokens(text: str) -> Iterator[Token]:
    """The last one is the end. Raises TextError."""
    at = 0
    while True:
        space = _SPACE.match(text, at)
        assert space is not None
        at = space.end()
        if at == len(text):
            yield Token(END, "", at)
            return
        token = _next(text, at)
        yield token
        at += len(token.text)


def _next(text: str, at: int) -> Token:
    for kind, pattern in (("identifier", _IDENTIFIER), ("float", _FLOAT), ("integer", _INTEGER)):
        if found := pattern.match(text, at):
            return Token(kind, found[0], at)
    char = text[at]
    if char in _STRING:
        if found := _STRING[char].match(text, at):
            return Token("string", found[0], at)
        raise error_at(text, len(text), "Unexpected end of string.")
    if ord(char) > 126:
        raise error_at(text, at, f"Interpreting non ascii codepoint {char.encode()[0]}.")
    if ord(char) < 32:
        raise error_at(text, at, "Invalid control characters encountered in text.")
    return Token("symbol", char, at)


def error_at(text: str, offset: int, message: str) -> TextError:
    """A tab goes to the next multiple of 8 columns, and a byte is a column, as in the original."""
    start = text.rfind("\n", 0, offset) + 1
    column = 0
    for char in text[start:offset]:
        column += _TAB - column % _TAB if char == "\t" else len(char.encode())
    return TextError(text.count("\n", 0, offset) + 1, column + 1, message)


def unquoted(text: str, token: Token) -> bytes:
    """What a string's token stands for. Raises TextError at an escape that there is not."""
    done = bytearray()
    inner = token.text[1:-1]
    last = 0
    for escape in _ESCAPE.finditer(inner):
        done += inner[last : escape.start()].encode()
        last = escape.end()
        simple, octal, hexadecimal, short, long, other = escape.groups()
        if other is not None:
            raise error_at(text, token.offset + 2 + escape.start(), "Invalid escape sequence in string literal.")
        if simple:
            done.append(_SIMPLE[simple])
        elif octal or hexadecimal:
            done.append((int(octal, 8) if octal else int(hexadecimal, 16)) & 255)
        else:
            done += chr(min(int(short or long, 16), 0x10FFFF)).encode(errors="replace")
    return bytes(done + inner[last:].encode())
