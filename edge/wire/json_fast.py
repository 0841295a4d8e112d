"""Arrays of numbers from JSON text, by simdjson: the quick way for a body of the usual form.

simdjson flattens nested lists in C and loses their shape, so the text's skeleton (what is left without numbers and
blanks) is compared with the one that a rectangular array of that shape has.

Rule 1: None is always a right answer: the exact reader decides then. Nothing is taken here that it would refuse.
Rule 2: a document's proxies are dead before its parser reads again; a parser belongs to one document at a time.
Rule 3: a client asks again and again in one form: the skeleton of a small body that was taken says the shape of the
next. Skeletons are equal only where brackets, commas and quotes are; the key, and that no list is empty, are looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from simdjson import Array as JsonArray
from simdjson import Object as JsonObject
from simdjson import Parser

from edge.domain.tensors import MAX_RANK, Array, Shape

MAX_IDLE_PARSERS = 4
MAX_OTHERS = 1 << 20
"""Strings and objects in one body, about: more are no arrays of numbers, and each takes 32 bytes while it is parsed."""
MAX_IDLE_BYTES = 1 << 20
"""A parser keeps some ten times its largest document; one that has read more than this is not kept."""

SMALL_TEXT = 1 << 12
NUMBER_BYTES = b"0123456789+-.eE \t\n\r"
_NUMERIC = re.compile(rb":[ \t\n\r]*\[[\[ \t\n\r]*[-0-9]")

MAX_FORMS = 64
"""Skeletons of small bodies, at most SMALL_TEXT bytes each, that are remembered."""

_idle: list[Parser] = []
_forms: dict[bytes, tuple[str, Shape]] = {}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How simdjson flattens for a dtype, and the range to check; None where C has checked it."""

    of_type: Literal["d", "i", "u"]
    wide: np.dtype[Any]
    low: int | None
    high: int | None


def _kinds() -> dict[int, _Kind]:
    kinds: dict[int, _Kind] = {
        np.dtype(name).num: _Kind("d", np.dtype("float64"), None, None) for name in ("float32", "float64")
    }
    for name in ("uint8", "uint16", "uint32", "uint64"):
        high = None if name == "uint64" else int(np.iinfo(name).max)
        kinds[np.dtype(name).num] = _Kind("u", np.dtype("uint64"), None, high)
    for name in ("int8", "int16", "int32", "int64"):
        limits = None if name == "int64" else np.iinfo(name)
        low, high = (None, None) if limits is None else (int(limits.min), int(limits.max))
        kinds[np.dtype(name).num] = _Kind("i", np.dtype("int64"), low, high)
    return kinds


_KINDS = _kinds()
_FLOAT32 = np.dtype("float32")
_largest, _smallest = np.maximum.reduce, np.minimum.reduce


class FastDocument:
    """A valid document with one member besides `signature_name`: an array, or an object of arrays."""

    __slots__ = ("_body", "_parser", "_shape", "_skeleton", "_value", "key", "signature_name")

    def __init__(
        self, body: bytes, parser: Parser, key: str, value: JsonArray | JsonObject, signature_name: str = ""
    ) -> None:
        self.key, self.signature_name = key, signature_name
        self._body, self._parser = body, parser
        self._skeleton = b""
        self._shape: Shape | None = None
        self._value: JsonArray | JsonObject | None = value

    @property
    def numeric(self) -> bool:
        """Whether the first array starts with a number; one of strings or objects is not for this reader."""
        return _NUMERIC.search(self._body) is not None

    def take(self, name: str, dtype: np.dtype[Any]) -> Array | None:
        """The one array, as the tensor `name`; in an object of arrays, its only member of that name. Once."""
        value, self._value = self._value, None
        if isinstance(value, JsonArray):
            found = self._take_array(value, dtype)
        elif value is not None:
            several = self._take_members(value, {name: dtype})
            found = several[name] if several else None
        else:
            return None
        del value
        self._give_back()
        return found

    def _take_array(self, value: JsonArray, dtype: np.dtype[Any]) -> Array | None:
        if self._shape is not None:
            return _read_as(value, dtype, self._shape)
        found = _read(value, dtype, _skeleton(self._body, self._body.find(b"[")))
        if found is not None and self._skeleton and not self.signature_name:
            if len(_forms) >= MAX_FORMS:
                _forms.clear()
            _forms[self._skeleton] = self.key, found.shape
        return found

    def take_all(self, dtypes: dict[str, np.dtype[Any]]) -> dict[str, Array] | None:
        """An object's members, by name; None unless it has exactly these. Once."""
        value, self._value = self._value, None
        if not isinstance(value, JsonObject):
            return None
        found = self._take_members(value, dtypes)
        del value
        self._give_back()
        return found

    def _take_members(self, members: JsonObject, dtypes: dict[str, np.dtype[Any]]) -> dict[str, Array] | None:
        names = list(members)
        if len(names) != len(dtypes) or set(names) != dtypes.keys():
            return None
        # No string in the text has an escape or a quote, so what follows this is the object, whatever the names are.
        opener = b'"inputs":{'
        skeleton = self._body.translate(None, NUMBER_BYTES)
        at = skeleton.find(opener) + len(opener) - 1
        found: dict[str, Array] = {}
        for name in names:
            member = members[name]
            label = b',"' if found else b'{"'
            label += name.encode().translate(None, NUMBER_BYTES) + b'":'
            if not isinstance(member, JsonArray) or not skeleton.startswith(label, at):
                return None
            at += len(label)
            array = _read(member, dtypes[name], skeleton[at:])
            if array is None:
                return None
            at += len(skeleton_of(array.shape))
            found[name] = array
        return found

    def _give_back(self) -> None:
        if len(self._body) <= MAX_IDLE_BYTES and len(_idle) < MAX_IDLE_PARSERS:
            _idle.append(self._parser)


def read(body: bytes) -> FastDocument | None:
    """None where the body is not of this kind, valid or not."""
    if b"\\" in body or (len(body) > MAX_OTHERS and body.count(b'"') + body.count(b"{") > MAX_OTHERS):
        return None
    try:
        parser = _idle.pop()
    except IndexError:
        parser = Parser()
    try:
        root = parser.parse(body)
    except (ValueError, RuntimeError, MemoryError):
        return None
    if not isinstance(root, JsonObject):
        return None
    if len(body) > SMALL_TEXT:
        return _document(body, parser, root)
    skeleton = body.translate(None, NUMBER_BYTES)
    document = _known_document(body, parser, root, skeleton) or _document(body, parser, root)
    if document is not None:
        document._skeleton = skeleton
    return document


def _known_document(body: bytes, parser: Parser, root: JsonObject, skeleton: bytes) -> FastDocument | None:
    form = _forms.get(skeleton)
    if form is None:
        return None
    key, shape = form
    try:
        value = root[key]
    except KeyError:  # another key, that differs in blanks, digits or an e
        return None
    if not isinstance(value, JsonArray):
        return None
    document = FastDocument(body, parser, key, value)
    document._shape = shape
    return document


def _document(body: bytes, parser: Parser, root: JsonObject) -> FastDocument | None:
    keys = list(root)
    signature_name = ""
    if len(keys) == 2 and "signature_name" in keys:
        keys.remove("signature_name")
        named = root["signature_name"]
        if not isinstance(named, str) or "[" in named:
            return None
        signature_name = named
    if keys == ["instances"]:
        value = root["instances"]
        if isinstance(value, JsonArray):
            return FastDocument(body, parser, "instances", value, signature_name)
    elif keys == ["inputs"]:
        value = root["inputs"]
        if isinstance(value, JsonArray | JsonObject):
            return FastDocument(body, parser, "inputs", value, signature_name)
    return None


def _read(source: JsonArray, dtype: np.dtype[Any], skeleton: bytes) -> Array | None:
    """`skeleton` starts with the array's."""
    if dtype.num not in _KINDS:
        return None
    shape = _shape(source)
    if shape is None or not skeleton.startswith(skeleton_of(shape)):
        return None
    return _read_as(source, dtype, shape)


def _read_as(source: JsonArray, dtype: np.dtype[Any], shape: Shape) -> Array | None:
    """The text's skeleton is that of the shape."""
    kind = _KINDS.get(dtype.num)
    if kind is None:
        return None
    try:
        flat: npt.NDArray[Any] = np.frombuffer(source.as_buffer(of_type=kind.of_type), kind.wide)
    except (ValueError, TypeError, RuntimeError, MemoryError):
        return None
    # An empty list has the skeleton of a list of one; only their numbers tell them apart.
    if flat.size != prod(shape):
        return None
    # Not flat.max(): that is a function of Python's, and costs twice as much.
    if kind.high is not None and _largest(flat) > kind.high:
        return None
    if kind.low is not None and _smallest(flat) < kind.low:
        return None
    return narrow(flat, dtype).reshape(shape)


def narrow(wide: Array, dtype: np.dtype[Any]) -> Array:
    """A double beyond float32 becomes infinity, as in C."""
    if dtype == _FLOAT32:
        with np.errstate(over="ignore"):
            return wide.astype(dtype)
    return wide.astype(dtype, copy=False)


def _shape(array: JsonArray) -> Shape | None:
    """Along the first elements; None for an empty list or too many dimensions."""
    sizes: list[int] = []
    first: object = array
    while isinstance(first, JsonArray):
        size = len(first)
        if size == 0 or len(sizes) == MAX_RANK:
            return None
        sizes.append(size)
        first = first[0]
    return tuple(sizes)


def _skeleton(body: bytes, start: int) -> bytes:
    """Brackets and commas from the first bracket on. Array operations pay off from a few KB."""
    if len(body) < SMALL_TEXT:
        return body[start:].translate(None, NUMBER_BYTES)
    text = np.frombuffer(body, np.uint8, offset=start)
    structural = text == 0x2C
    structural |= (text - np.uint8(0x5B)) <= 2  # brackets; the backslash between them cannot be there
    return text.compress(structural).tobytes()


def skeleton_of(shape: Shape) -> bytes:
    """`[[,],[,]]` for (2, 2)."""
    return _small_skeleton(shape) if prod(shape) <= SMALL_TEXT else _make_skeleton(shape)


def _make_skeleton(shape: Shape) -> bytes:
    skeleton = b""
    for size in reversed(shape):
        skeleton = b"[" + (skeleton + b",") * (size - 1) + skeleton + b"]"
    return skeleton


_small_skeleton = lru_cache(maxsize=32)(_make_skeleton)
