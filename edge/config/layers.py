"""The three layers above the defaults: a TOML file, the environment, the command line. Read here, judged elsewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config.keys import Key, parse, show

PREFIX = "EDGE_"
OTHERS = "EDGE_SYNC_"
"""The agent's and the operator's variables: one environment file often serves both of a device's processes."""
NOT_KEYS = frozenset({"EDGE_CONFIG", "EDGE_RUNTIME", "EDGE_EDGETPU_LIBRARY", "EDGE_URL", "EDGE_TOKEN_FILE"})
MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it comes from. `text`: a word to be read, rather than a value of TOML's."""

    key: Key
    value: Any
    origin: str
    base: Path
    text: bool = False


def from_file(path: Path) -> list[Setting]:
    """Raises OSError, and ValueError "FILE:LINE: …" for what is not TOML."""
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: want at most {MAX_FILE_BYTES} bytes")
    try:
        text = raw.decode()
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = str(error), re.search(r"at line (\d+)", str(error))
        where = line[1] if line else text.count("\n") + 1
        raise ValueError(f"{path}:{where}: not TOML: {message}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{raw[: error.start].count(10) + 1}: not TOML: want UTF-8") from None
    lines = find_lines(text)
    base = path.absolute().parent
    return [Setting(key, value, f"{path}:{_line(lines, key)}", base) for key, value in _leaves(tree)]


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """What is not a table where a table belongs has the short key of the section, for the judge to refuse."""
    for section, table in tree.items():
        if not isinstance(table, dict):
            yield (section,), table
        elif section != "models":
            yield from (((section, field), value) for field, value in table.items())
        else:
            for name, model in table.items():
                if not isinstance(model, dict):
                    yield (section, name), model
                else:
                    yield (section, name), None
                    yield from (((section, name, field), value) for field, value in model.items())


def _line(lines: Mapping[Key, int], key: Key) -> int:
    """The line of the key, or of the table or inline table that it is in."""
    return next((lines[key[:size]] for size in range(len(key), 0, -1) if key[:size] in lines), 1)


_WORD = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PATH = rf"{_WORD}(?:\s*\.\s*{_WORD})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_PATH})\s*\]")
_ENTRY = re.compile(rf"\s*({_PATH})\s*=")


def find_lines(text: str) -> dict[Key, int]:
    """Every table's and key's line, counted from 1, by a scan of TOML that is known to be well-formed."""
    lines: dict[Key, int] = {}
    table: Key = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
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


def from_env(env: Mapping[str, str], models: list[str]) -> tuple[list[Setting], list[str]]:
    """`EDGE_SECTION__KEY` and `EDGE_MODELS__NAME__KEY`; and a warning for each other `EDGE_` name.

    A name in `models` that differs only in case or in what no variable's name can hold is meant.
    """
    settings, warnings = [], []
    for name, value in sorted(env.items()):
        if not name.startswith(PREFIX) or name.startswith(OTHERS) or name in NOT_KEYS:
            continue
        parts = name[len(PREFIX) :].split("__")
        if len(parts) == 1:
            warnings.append(f"{name}: no such setting; a key is set by EDGE_SECTION__KEY")
            continue
        section, middle, field = parts[0].lower(), "__".join(parts[1:-1]), parts[-1].lower()
        known = {_as_variable(model): model for model in models}
        named = (known.get(_as_variable(middle), middle.lower()),) if section == "models" or middle else ()
        settings.append(Setting((section, *named, field), value, name, Path.cwd(), text=True))
    return settings, warnings


def _as_variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def from_flags(flags: Mapping[str, object]) -> list[Setting]:
    """Dotted keys to values; None stands for a flag that was not given."""
    return [
        Setting(parse(dotted), value, f"flag {show(parse(dotted))}", Path.cwd(), text=True)
        for dotted, value in flags.items()
        if value is not None
    ]
