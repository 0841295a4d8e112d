"""Protobuf's text format → plain values, strictly by a message's fields.

A message becomes a dictionary of the fields that are there, a repeated field a list, a map a dictionary, an enumeration its
number. Source and texts: google/protobuf/text_format.cc, as TensorFlow Serving is built with it. Rules: an unknown field, a
wrong type, a field given twice is an error; how deep it goes is bounded by the message itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.config.tfserving.messages import ANY, INTEGERS, Enum, Field, Message
from edge.config.tfserving.tokens import END, TextError, Token, error_at, tokens, unquoted

BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}


def parse_text(text: str, message: Message) -> dict[str, Any]:
    """Raises TextError, whose text begins with the line and the column."""
    return _Parser(text).whole(message)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._now: Token = next(self._tokens)

    def whole(self, message: Message) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._now.kind != END:
            self._field(message, found)
        return found

    def _advance(self) -> Token:
        token = self._now
        self._now = next(self._tokens, Token(END, "", len(self._text)))
        return token

    def _error(self, message: str) -> TextError:
        return error_at(self._text, self._now.offset, message)

    def _looks(self, symbol: str) -> bool:
        return self._now.kind == "symbol" and self._now.text == symbol

    def _take(self, symbol: str) -> bool:
        if not self._looks(symbol):
            return False
        self._advance()
        return True

    def _want(self, symbol: str) -> None:
        if not self._take(symbol):
            raise self._error(f'Expected "{symbol}", found "{self._now.text}".')

    def _field(self, message: Message, found: dict[str, Any]) -> None:
        if message.name == ANY and self._looks("["):
            raise self._error("want no extension or Any here; none of their types is known")
        name = self._identifier()
        field = message.fields.get(name)
        if field is None:
            raise self._error(f'Message type "{message.name}" has no field named "{name}".')
        self._check_first(message, name, field, found)
        is_message = isinstance(field.kind, Message)
        if is_message:
            self._take(":")
        else:
            self._want(":")
        if field.repeated and self._take("["):
            self._list(field, name, found)
        else:
            _put(found, name, field, self._value(field, name))
        if not self._take(";"):
            self._take(",")

    def _check_first(self, message: Message, name: str, field: Field, found: dict[str, Any]) -> None:
        if not field.repeated and name in found:
            raise self._error(f'Non-repeated field "{name}" is specified multiple times.')
        group = message.oneof.get(name)
        other = next((each for each in found if group and message.oneof.get(each) == group), None)
        if other is not None:
            raise self._error(
                f'Field "{name}" is specified along with field "{other}", another member of oneof "{group}".'
            )

    def _list(self, field: Field, name: str, found: dict[str, Any]) -> None:
        found.setdefault(name, {} if field.is_map else [])
        if self._take("]"):
            return
        while True:
            _put(found, name, field, self._value(field, name))
            if self._take("]"):
                return
            self._want(",")

    def _value(self, field: Field, name: str) -> Any:
        if isinstance(field.kind, Message):
            return self._message(field.kind)
        if isinstance(field.kind, Enum):
            return self._enum(field.kind, name)
        scalars: dict[str, Callable[[], Any]] = {"string": self._string, "double": self._double}
        if field.kind in scalars:
            return scalars[field.kind]()
        return self._boolean(name) if field.kind == "bool" else self._integer(*INTEGERS[field.kind])

    def _message(self, message: Message) -> dict[str, Any]:
        if self._take("<"):
            closing = ">"
        else:
            self._want("{")
            closing = "}"
        found: dict[str, Any] = {}
        while not self._looks(">") and not self._looks("}"):
            self._field(message, found)
        self._want(closing)
        return found

    def _identifier(self) -> str:
        if self._now.kind != "identifier":
            raise self._error(f"Expected identifier, got: {self._now.text}")
        return self._advance().text

    def _string(self) -> str:
        if self._now.kind != "string":
            raise self._error(f"Expected string, got: {self._now.text}")
        at, value = self._now, b""
        while self._now.kind == "string":
            value += unquoted(self._text, self._now)
            self._advance()
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise error_at(self._text, at.offset, "String field contains invalid UTF-8 data") from None

    def _integer(self, low: int, high: int) -> int:
        negative = low < 0 and self._take("-")
        token = self._now
        if token.kind != "integer":
            raise self._error(f"Expected integer, got: {token.text}")
        value = _number(token.text)
        value = None if value is None else -value if negative else value
        if value is None or not low <= value <= high:
            raise self._error(f"Integer out of range ({token.text})")
        self._advance()
        return value

    def _double(self) -> float:
        negative = self._take("-")
        token = self._now
        if token.kind in ("integer", "float"):
            value = float(token.text.rstrip("fF"))
        elif token.kind == "identifier" and token.text.lower() in ("inf", "infinity", "nan"):
            value = float(token.text)
        else:
            raise self._error(f"Expected double, got: {token.text}")
        self._advance()
        return -value if negative else value

    def _boolean(self, name: str) -> bool:
        if self._now.kind == "integer":
            return bool(self._integer(0, 1))
        word = self._identifier()
        if word not in BOOLEANS:
            raise self._error(f'Invalid value for boolean field "{name}". Value: "{word}".')
        return BOOLEANS[word]

    def _enum(self, enum: Enum, name: str) -> int:
        if self._now.kind == "identifier":
            word = self._advance().text
            if word in enum.values:
                return enum.values[word]
        else:
            word = str(value := self._integer(*INTEGERS["int32"]))
            if value in enum.values.values():
                return value
        raise self._error(f'Unknown enumeration value of "{word}" for field "{name}".')


def _number(text: str) -> int | None:
    """Decimal, octal with a leading 0, or hexadecimal; None where it is none of them."""
    if len(text) > 24:
        return None
    try:
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        return None


def _put(found: dict[str, Any], name: str, field: Field, value: Any) -> None:
    if field.is_map:
        assert isinstance(field.kind, Message)
        zero = "" if field.kind.fields["key"].kind == "string" else 0
        found.setdefault(name, {})[value.get("key", zero)] = value.get("value", 0)
    elif field.repeated:
        found.setdefault(name, []).append(value)
    else:
        found[name] = value
