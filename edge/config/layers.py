"""The three layers above the defaults: a TOML file, the environment, the command line. Read here, judged elsewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config.keys import SECTIONS, Key, fields, parse, show
from edge.domain.toml import broken_at, find_lines, line_of

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
        raise ValueError(f"{path}:{broken_at(text, str(error))}: not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{raw[: error.start].count(10) + 1}: not TOML: want UTF-8") from None
    lines = find_lines(text)
    base = path.absolute().parent
    return [Setting(key, value, f"{path}:{line_of(lines, key)}", base) for key, value in _leaves(tree)]


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
            warnings.append(f"{name}: no such setting; {_meant(parts[0])}")
            continue
        section, middle, field = parts[0].lower(), "__".join(parts[1:-1]), parts[-1].lower()
        known = {as_variable(model): model for model in models}
        named = (known.get(as_variable(middle), middle.lower()),) if section == "models" or middle else ()
        settings.append(Setting((section, *named, field), value, name, Path.cwd(), text=True))
    return settings, warnings


def _meant(rest: str) -> str:
    """What to write in place of a variable with one underscore where two belong."""
    for section in SECTIONS:
        field = rest.lower().removeprefix(f"{section}_")
        if section != "models" and field in fields(section) and rest.lower() != field:
            return f"did you mean {PREFIX}{section.upper()}__{field.upper()}?"
    return "a key is set by EDGE_SECTION__KEY"


def as_variable(name: str) -> str:
    """A model's name as the names of variables have it."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def from_flags(flags: Mapping[str, object]) -> list[Setting]:
    """Dotted keys to values; None stands for a flag that was not given."""
    return [
        Setting(parse(dotted), value, f"flag {show(parse(dotted))}", Path.cwd(), text=True)
        for dotted, value in flags.items()
        if value is not None
    ]
