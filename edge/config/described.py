"""What each key is for, and the configuration as others want it: JSON Schema for editors, a commented file for people.

Rule: the words are those of docs/configuration.md, which a wheel carries as edge/data/configuration.md; where neither is
there, the keys come without words.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edge.config import keys
from edge.domain.toml import toml_value

PLACES = (
    Path(__file__).parents[1] / "data" / "configuration.md",
    Path(__file__).parents[2] / "docs" / "configuration.md",
)
SCHEMA = "https://json-schema.org/draft/2020-12/schema"
WIDTH = 100
"""Columns of the commented file."""
PLACEHOLDERS = {
    ("server", "state_dir"): '"/var/lib/edge"',
    ("admin", "uds"): '"/run/edge/admin.sock"',
    ("models", "path"): '"/var/lib/edge/models/NAME"',
}
"""Of keys whose default hangs on the environment."""
HEAD = """\
# The settings of `edge serve`, each with its default; where that hangs on who starts the server, an example stands, and
# says that it is one. Take the # away from a line, and from its section's, to change it.
# `edge config check` says what is wrong, `edge config show --origin` what is in force and who set it.
"""


@cache
def described() -> Mapping[tuple[str, str], tuple[str, str, str]]:
    """The type, the default and the meaning of each key, in words, by section and key."""
    text = next((place.read_text() for place in PLACES if place.is_file()), "")
    parts = re.split(r"^## \[(\w+)[^\n]*\]$", text, flags=re.MULTILINE)
    found = {}
    for section, rest in zip(parts[1::2], parts[2::2], strict=True):
        for line in rest.split("\n## ")[0].splitlines():
            cells = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell.strip()) for cell in line.strip("|").split("|")]
            if line.startswith("| `") and len(cells) == 4:
                found[section, cells[0].strip("`")] = (cells[1], cells[2], cells[3])
    return found


def schema() -> dict[str, Any]:
    """JSON Schema of the file, as editors that complete and check TOML take it."""
    sections = {}
    for section in keys.SECTIONS:
        table = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _property(section, name) for name in keys.fields(section)},
        }
        if section == "models":
            names = {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"}
            table = {"type": "object", "propertyNames": names, "additionalProperties": table}
        sections[section] = table
    return {
        "$schema": SCHEMA,
        "title": "edge.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def _property(section: str, name: str) -> dict[str, Any]:
    field = keys.fields(section)[name]
    found = _inlined(msgspec.json.schema(field.type, schema_hook=lambda kind: {"type": "string"}))
    if (section, name) in described():
        found["description"] = described()[section, name][2]
    if field.default is not msgspec.NODEFAULT:
        found["default"] = _default(field.default)
    return found


def _inlined(found: dict[str, Any]) -> dict[str, Any]:
    """Without references, and with the empty string of TOML where others have null."""
    definitions = found.pop("$defs", {})
    if "$ref" in found:
        found = {**definitions[found["$ref"].rpartition("/")[2]]}
        found.pop("title", None)
    if "anyOf" in found:
        (found,) = (each for each in found["anyOf"] if each != {"type": "null"})
        if found.get("type") != "string":
            found = {"anyOf": [found, {"const": ""}]}
    return found


def _default(value: Any) -> Any:
    return "" if value is None else msgspec.to_builtins(value, enc_hook=dict)


def sample() -> str:
    """A file with every key behind a #: as it stands it sets nothing."""
    return HEAD + "".join(f"\n{line}" for section in keys.SECTIONS for line in _section(section)) + "\n"


def _section(section: str) -> Iterator[str]:
    yield "# " + "-" * (WIDTH - 2)
    yield "#[models.NAME]" if section == "models" else f"#[{section}]"
    for name, field in keys.fields(section).items():
        _, default, meaning = described().get((section, name), ("", "", ""))
        if field.default is msgspec.NODEFAULT:
            value = f"{PLACEHOLDERS[section, name]}  # an example, not the default"
            meaning += f" (default: {default})" if default else ""
        else:
            value = toml_value(_default(field.default))
        yield ""
        yield from textwrap.wrap(
            f"{meaning} [{keys.wanted((section, '', name))}]", WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        yield f"#{name} = {value}"
