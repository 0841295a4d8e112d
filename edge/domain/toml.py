"""What the standard library's tomllib leaves out: the line of a key, for messages, and writing. Pure: text in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Key = tuple[str, ...]

_WORD = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PATH = rf"{_WORD}(?:\s*\.\s*{_WORD})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_PATH})\s*\]")
_ENTRY = re.compile(rf"\s*({_PATH})\s*=")


def find_lines(text: str) -> dict[Key, int]:
    """Every table's and key's line, counted from 1, by a scan of TOML that is known to be well-formed."""
    lines: dict[Key, int] = {}
    table: Key = ()
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        started_inside = inside
        inside = _still_inside(line, inside)
        if started_inside:
            continue
        if header := _HEADER.match(line):
            table = _words(header[1])
            lines.setdefault(table, number)
        elif entry := _ENTRY.match(line):
            lines.setdefault(table + _words(entry[1]), number)
    return lines


def line_of(lines: Mapping[Key, int], key: Key) -> int:
    """The line of the key, or of the table or inline table that it is in."""
    return next((lines[key[:size]] for size in range(len(key), 0, -1) if key[:size] in lines), 1)


def broken_at(text: str, message: str) -> int:
    """The line that tomllib's `message` is about; the last that has anything where it says the end."""
    line = re.search(r"at line (\d+)", message)
    return int(line[1]) if line else text.rstrip().count("\n") + 1


def _words(path: str) -> Key:
    return tuple(word.strip("\"'") for word in re.findall(_WORD, path))


def _still_inside(line: str, inside: str) -> str:
    """Which kind of multi-line string, if any, the next line begins in."""
    for quotes in re.findall(r'"""|\'\'\'', line):
        if not inside:
            inside = quotes
        elif inside == quotes:
            inside = ""
    return inside


def to_toml(values: dict[str, Any], comment: Callable[[str], str] = lambda key: "") -> str:
    """Dotted keys to values → a file that says the same; `comment` is put behind each line."""
    lines: list[str] = []
    last = ""
    for dotted, value in values.items():
        section, _, rest = dotted.partition(".")
        name, _, key = rest.rpartition(".")
        table = f"[{section}]" if not name else f"[{section}.{_word(name)}]"
        if table != last:
            lines += ["", table] if lines else [table]
            last = table
        said = comment(dotted)
        lines.append(f"{key} = {toml_value(value)}" + (f"  # {said}" if said else ""))
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def toml_value(value: Any) -> str:
    """One value on one line."""
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_word(key)} = {toml_value(each)}" for key, each in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):  # a basic string of TOML's is one of JSON's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
