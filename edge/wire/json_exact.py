"""JSON of any kind → Python objects, in the dialect of `edge.wire.json_rapid`, as quickly as that allows.

Rule: the standard library's scanner reads what it is known to read alike; anything else, and every error, is left
to the exact reader, so that both give the same value or the same complaint.
"""

from __future__ import annotations

import json
from typing import Any

from edge.domain.errors import TooLarge
from edge.wire import json_rapid
from edge.wire.json_rapid import BOM, MAX_DEPTH, JsonError

__all__ = ["JsonError", "bound_values", "parse"]

MAX_VALUES = 1 << 20
"""Of one document that becomes objects: each is up to 170 bytes of memory, and takes as few as two of the body."""
_BLANKS = " \t\n\r"


def bound_values(text: bytes) -> None:
    """Raises TooLarge for JSON of more than MAX_VALUES values. Commas in its strings count as if there were a value."""
    if len(text) <= 2 * MAX_VALUES:
        return
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if values > MAX_VALUES:
        raise TooLarge(
            f"want at most {MAX_VALUES} values in JSON that is not plain arrays of numbers, got about {values}: "
            "send several requests, or binary tensors"
        )


def parse(body: bytes, *, whole: bool = False, last_wins: bool = False) -> Any:
    """The root value: dict, list, str, int (64 bits), float, bool or None; bytes that are no UTF-8 are surrogate escapes.

    `whole`: nothing but blanks may follow the root. `last_wins`: of equal names, else the first. Raises JsonError, TooLarge.
    """
    bound_values(body)
    if _reads_alike(body):
        decoder = _LAST_WINS if last_wins else _FIRST_WINS
        try:
            text = body.decode("utf-8", "surrogateescape")
            root, end = decoder.raw_decode(text, len(text) - len(text.lstrip(_BLANKS)))
        except (ValueError, RecursionError):
            pass
        else:
            # A bare number's broken tail ("1.") would pass for text after the root.
            if isinstance(root, dict | list) and _depth_is_bounded(body, root) and not (whole and _has_more(text, end)):
                return root
    return json_rapid.parse(body, whole=whole, last_wins=last_wins)


def _has_more(text: str, end: int) -> bool:
    return end < len(text) and bool(text[end:].strip(_BLANKS))


def _first_wins(members: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(members)
    if len(unique) != len(members):
        unique.clear()
        for name, value in members:
            unique.setdefault(name, value)
    return unique


_FIRST_WINS = json.JSONDecoder(object_pairs_hook=_first_wins)
_LAST_WINS = json.JSONDecoder()


def _reads_alike(body: bytes) -> bool:
    """The library would take a lone surrogate, an integer of any length, and 1e999 for infinity."""
    if body.startswith(BOM) or b"\\ud" in body or b"\\uD" in body:
        return False
    return not json_rapid.has_extreme_number(body)


def _depth_is_bounded(body: bytes, root: Any) -> bool:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return True
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is list or type(child) is dict
        ]
        if not level:
            return True
    return False
