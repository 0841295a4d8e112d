"""Definitions in protobuf's language → descriptors, without protoc: the part of proto3 that the files beside this use.

Rule 1: messages (in one another, too), enums, `repeated`, `map` and `oneof`; anything else is a mistake, told with its line.
Rule 2: a type is looked for as protobuf does: in the message, in those around it, in the package, and then as a whole name.
Source: https://protobuf.dev/reference/protobuf/proto3-spec/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

_TOKEN = re.compile(r'//[^\n]*|\s+|([\w.]+|"[^"\n]*"|[={}<>,;])|(.)')
_SCALARS = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")
}
Field = FieldDescriptorProto


def file_of(text: str, name: str) -> Any:
    """A FileDescriptorProto. Raises ValueError."""
    file = FileDescriptorProto(name=name, syntax="proto3")
    words = _Words(text, name)
    kinds: dict[str, int] = {}
    while words.left:
        match words.take():
            case "syntax":
                words.expect("=", '"proto3"', ";")
            case "package":
                file.package = words.take()
                words.expect(";")
            case "import":
                file.dependency.append(words.take().strip('"'))
                words.expect(";")
            case "message":
                _message(words, file.message_type.add(), f"{file.package}.", kinds)
            case "enum":
                _enum(words, file.enum_type.add(), f"{file.package}.", kinds)
            case other:
                raise words.wrong(f"message, enum, package or import, got {other!r}")
    for message in file.message_type:
        _resolve(message, f"{file.package}.{message.name}", kinds)
    return file


class _Words:
    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._words = list(_split(text, name))
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._words)

    def take(self) -> str:
        if not self.left:
            raise ValueError(f"{self._name}: it ends too early")
        self._at += 1
        return self._words[self._at - 1][0]

    def expect(self, *wanted: str) -> None:
        for word in wanted:
            if (got := self.take()) != word:
                raise self.wrong(f"{word!r}, got {got!r}")

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"{self._name}:{self._words[self._at - 1][1]}: want {what}")


def _split(text: str, name: str) -> Iterator[tuple[str, int]]:
    """Words with their lines. Raises ValueError."""
    for match in _TOKEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[2]:
            raise ValueError(f"{name}:{line}: want a word, got {match[2]!r}")
        if match[1]:
            yield match[1], line


def _message(words: _Words, made: Any, prefix: str, kinds: dict[str, int]) -> None:
    made.name = words.take()
    path = f"{prefix}{made.name}"
    kinds[path] = Field.TYPE_MESSAGE
    words.expect("{")
    while (word := words.take()) != "}":
        match word:
            case "message":
                _message(words, made.nested_type.add(), f"{path}.", kinds)
            case "enum":
                _enum(words, made.enum_type.add(), f"{path}.", kinds)
            case "oneof":
                made.oneof_decl.add(name=words.take())
                words.expect("{")
                while (kind := words.take()) != "}":
                    _field(words, made, kind).oneof_index = len(made.oneof_decl) - 1
            case "map":
                _map(words, made, path)
            case "repeated":
                _field(words, made, words.take(), Field.LABEL_REPEATED)
            case _:
                _field(words, made, word)


def _enum(words: _Words, made: Any, prefix: str, kinds: dict[str, int]) -> None:
    made.name = words.take()
    kinds[f"{prefix}{made.name}"] = Field.TYPE_ENUM
    words.expect("{")
    while (name := words.take()) != "}":
        words.expect("=")
        made.value.add(name=name, number=_number(words))
        words.expect(";")


def _field(words: _Words, made: Any, kind: str, label: int = Field.LABEL_OPTIONAL) -> Any:
    """Its type's name is resolved when all are known."""
    field = made.field.add(name=words.take(), label=label, type_name=kind)
    words.expect("=")
    field.number = _number(words)
    words.expect(";")
    return field


def _map(words: _Words, made: Any, path: str) -> None:
    """A map is a repeated message of pairs, by the name that protobuf wants for it."""
    words.expect("<")
    key = words.take()
    words.expect(",")
    value = words.take()
    words.expect(">")
    field = _field(words, made, "", Field.LABEL_REPEATED)
    entry = DescriptorProto(name="".join(part.capitalize() for part in field.name.split("_")) + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type_name=key)
    entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL, type_name=value)
    made.nested_type.append(entry)
    field.type, field.type_name = Field.TYPE_MESSAGE, f".{path}.{entry.name}"


def _number(words: _Words) -> int:
    word = words.take()
    if not word.isdecimal():
        raise words.wrong(f"a number, got {word!r}")
    return int(word)


def _resolve(message: Any, path: str, kinds: dict[str, int]) -> None:
    for nested in message.nested_type:
        _resolve(nested, f"{path}.{nested.name}", kinds)
    for field in message.field:
        if field.type_name.startswith("."):
            continue
        if field.type_name in _SCALARS:
            field.type = _SCALARS[field.type_name]
            field.ClearField("type_name")
            continue
        whole = _find(field.type_name, path, kinds.__contains__)
        # A type of another file is a message: no enum here is used by another.
        field.type = kinds.get(whole, Field.TYPE_MESSAGE)
        field.type_name = f".{whole}"


def _find(name: str, path: str, known: Callable[[str], bool]) -> str:
    while path:
        if known(whole := f"{path}.{name}"):
            return whole
        path = path.rpartition(".")[0]
    return name
