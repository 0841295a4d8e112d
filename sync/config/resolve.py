"""From a file, the environment and flags to the configuration, and who set what.

Rule: unknown keys, wrong types and values out of range are refused, all at once, each with who set it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from edge.domain.toml import broken_at, find_lines, line_of
from sync.config.sections import SECTIONS, Config
from sync.domain.errors import OperatorError

PREFIX = "EDGE_SYNC_"
NOT_KEYS = frozenset({"EDGE_SYNC_CONFIG", "EDGE_SYNC_STORE", "EDGE_SYNC_KEYS"})
"""Names that the commands themselves read."""
MAX_FILE_BYTES = 1 << 20

Given = dict[tuple[str, str], tuple[str, Any]]
"""By section and key: who set it, and to what."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """`origins` has every key, by its dotted name: FILE:LINE, a variable, a flag, or "default"; `warnings` are for who starts it."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def load_config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """The configuration alone. Raises OperatorError."""
    return resolve(file, environment, flags).config


def resolve(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Resolved:
    """flags: dotted keys to values, None for one not given. Raises OperatorError."""
    given = _read(file) if file is not None else {}
    above, warnings = _from_environment(environment)
    given |= above
    for dotted, value in flags.items():
        section, _, key = dotted.partition(".")
        if value is not None:
            given[section, key] = (f"--set {dotted}", _listed(section, key, value))
    problems = [
        f"{who}: {problem}"
        for (section, key), (who, value) in given.items()
        if (problem := _problem(section, key, value))
    ]
    _refuse(problems)
    tree: dict[str, dict[str, Any]] = {}
    for (section, key), (_, value) in given.items():
        tree.setdefault(section, {})[key] = value
    origins = {
        f"{section}.{key}": given.get((section, key), ("default", None))[0]
        for section in SECTIONS
        for key in _defaults(section)
    }
    config = msgspec.convert(tree, Config, strict=False)
    _refuse([f"{origins[key]}: {key}: {problem}" for key, problem in _unfit(config)])
    return Resolved(config, origins, tuple(warnings))


def _refuse(problems: list[str]) -> None:
    """Raises OperatorError where there are any."""
    if len(problems) == 1:
        raise OperatorError(f"configuration: {problems[0]}")
    if problems:
        raise OperatorError("configuration:", problems)


def _unfit(config: Config) -> Iterator[tuple[str, str]]:
    """Keys of which no topics can be made where there is a broker, and what is wrong."""
    if not config.mqtt.host:
        return
    from edge.domain.node import NODE
    from edge.mqtt.topics import PREFIX

    device, prefix = config.device.id, config.mqtt.prefix
    if NODE.fullmatch(device) is None:
        yield "device.id", f"with mqtt.host, want at most 63 letters a-z, digits and inner hyphens, got {device!r}"
    if PREFIX.fullmatch(prefix) is None:
        yield "mqtt.prefix", f"want a prefix such as edge or site/edge, got {prefix!r}"


def plain(config: Config) -> dict[str, Any]:
    """Every key by its dotted name, in values that JSON and TOML have."""
    tree = msgspec.to_builtins(config)
    return {f"{section}.{key}": value for section, table in tree.items() for key, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> tuple[Given, list[str]]:
    """And a warning for each name that begins as ours do and is none."""
    given: Given = {}
    warnings = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in NOT_KEYS:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if key:
            key = _spelled(section, key)
            given[section, key] = (name, _listed(section, key, text))
        else:
            warnings.append(f"{name}: no such setting; {_meant(section)}")
    return given, warnings


def _meant(rest: str) -> str:
    """What to write in place of a variable with one underscore where two belong."""
    for section in SECTIONS:
        for key in _defaults(section):
            if rest == f"{section}_{key}".lower():
                return f"did you mean {PREFIX}{section.upper()}__{key.upper()}?"
    return f"a key is set by {PREFIX}SECTION__KEY"


def _problem(section: str, key: str, value: Any) -> str:
    """What is wrong with a value, "" for nothing."""
    if section not in SECTIONS:
        return f"{section}: no such section; there are {', '.join(SECTIONS)}"
    keys = {field.name: field.type for field in msgspec.structs.fields(SECTIONS[section])}
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {section}.{near[0]}?" if near else f"there are {', '.join(keys)}"
        return f"{section}.{key}: no such key; {hint}"
    try:
        msgspec.convert(value, keys[key], strict=False)
    except msgspec.ValidationError as error:
        return f"{section}.{key}: {_wanted(keys[key], str(error))}, got {value!r:.80}"
    start, _, end = str(value).partition("-") if (section, key) == ("network", "window") else ("", "", "")
    if start and start == end:
        return f"{section}.{key}: want two times that differ, got {value!r}"
    return ""


def _wanted(kind: Any, text: str) -> str:
    """msgspec's words in ours: Expected `float` >= 0.0, got `str` → want float >= 0.0."""
    if get_origin(kind) is Literal:
        return f"want one of {', '.join(get_args(kind))}"
    return text.partition(", got")[0].partition(" - at `")[0].replace("Expected", "want", 1).replace("`", "")


def _read(file: Path) -> Given:
    """Raises OperatorError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise OperatorError(f"{file}: want at most {MAX_FILE_BYTES} bytes")
        text = data.decode()
        tree = tomllib.loads(text)
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(10) + 1
        raise OperatorError(f"{file}:{line}: not TOML: want UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{file}:{broken_at(text, str(error))}: not TOML: {error}") from None
    lines, given = find_lines(text), Given()
    for section, table in tree.items():
        where = f"{file}:{line_of(lines, (section,))}"
        if not isinstance(table, dict):
            raise OperatorError(f"{where}: {section}: want a section, [{section}]")
        given |= {(section, key): (f"{file}:{line_of(lines, (section, key))}", value) for key, value in table.items()}
        if not table and section not in SECTIONS:
            given[section, ""] = (where, None)
    return given


def _spelled(section: str, key: str) -> str:
    """A variable's name is in capitals; the key's own spelling may not be."""
    return next((name for name in _defaults(section) if name.lower() == key), key)


def _listed(section: str, key: str, value: Any) -> Any:
    """In a flag or a variable, a list is `a,b`."""
    if isinstance(value, str) and isinstance(_defaults(section).get(key), tuple):
        return [each for each in value.split(",") if each]
    return value


def _defaults(section: str) -> dict[str, Any]:
    kind = SECTIONS.get(section)
    return {field.name: field.default for field in msgspec.structs.fields(kind)} if kind is not None else {}
