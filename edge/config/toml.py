"""Values → TOML. The standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any


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
