"""Which keys there are, what each wants, and how a value becomes one of its own.

A key is a tuple: ("http", "port"), or ("models", NAME, "device") for one model.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edge.config import paths
from edge.config.sections import Admin, Advertise, Grpc, Http, Log, Model, Mqtt, Repository, Server
from edge.domain.batch_sizes import check_batch_sizes
from edge.domain.layout import is_model_name
from edge.domain.policy import parse_policy

Key = tuple[str, ...]

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "server": Server,
    "http": Http,
    "grpc": Grpc,
    "mqtt": Mqtt,
    "models": Model,
    "repository": Repository,
    "admin": Admin,
    "advertise": Advertise,
    "log": Log,
}
WANTED_NAME = "want 1 to 128 of A-Z a-z 0-9 _ . - with a letter or digit first"


def show(key: Key) -> str:
    return ".".join(key)


def parse(dotted: str) -> Key:
    """`http.port` → its key; a model's name may hold dots, so its field is what follows the last."""
    section, _, rest = dotted.partition(".")
    if section != "models":
        return (section, rest) if rest else (section,)
    name, _, field = rest.rpartition(".")
    return (section, name, field)


@cache
def fields(section: str) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The keys of a section that exists, by name."""
    return {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}


def unknown(key: Key) -> str:
    """What is wrong with the key itself, the nearest known one named; empty for a known key."""
    section = key[0]
    if section not in SECTIONS:
        return f"no such section; {_nearest(section, SECTIONS)}"
    if section == "models" and not is_model_name(key[1]):
        return f"not a model's name: {WANTED_NAME}"
    field = key[-1]
    if field in fields(section):
        return ""
    prefix = show(key[:-1]) + "."
    elsewhere = [f"{other}.{field}" for other in SECTIONS if other != "models" and field in fields(other)]
    import difflib  # for mistakes alone: starting need not wait for it

    near = difflib.get_close_matches(field, fields(section), n=1)
    if elsewhere and not near:
        return f"no such key; did you mean {elsewhere[0]}?"
    return f"no such key; {_nearest(field, fields(section), prefix)}"


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    known = list(known)
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(known)}"


def convert(key: Key, value: Any, *, text: bool, base: Path) -> Any:
    """A known key's value from a file's, or with `text` from a word of the environment or the command line.

    A relative path is taken from `base`; an empty word is None where None may be. Raises ValueError with the
    message "want …, got …".
    """
    kind = fields(key[0])[key[-1]].type
    info = msgspec.inspect.type_info(kind)
    if value == "" and _may_be_none(info):
        return None
    try:
        whole = _split(info, value) if text and isinstance(value, str) else _plain(value)
        done = msgspec.convert(whole, kind, strict=not text, dec_hook=_path_from(base))
        if check := CHECKS.get((key[0], key[-1])):
            check(done)
    except msgspec.ValidationError:
        raise ValueError(f"want {wanted(key)}, got {_shown(value)}") from None
    return done


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _path_from(base: Path) -> Callable[[type, Any], Any]:
    def hook(kind: type, value: Any) -> Path:
        if kind is not Path or not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("want a path")
        try:
            return base / Path(value).expanduser()
        except RuntimeError:
            raise ValueError("want a path; nobody's home is known") from None

    return hook


def _split(info: msgspec.inspect.Type, word: str) -> Any:
    """`a,b` for a list, `a=1,b=2` for a table."""
    parts = [part.strip() for part in word.split(",") if part.strip()]
    if isinstance(info, msgspec.inspect.VarTupleType):
        return parts
    if isinstance(info, msgspec.inspect.DictType):
        return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in parts)}
    return word


def _shown(value: Any) -> str:
    try:
        return json.dumps(_plain(value), ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _may_be_none(info: msgspec.inspect.Type) -> bool:
    return isinstance(info, msgspec.inspect.UnionType) and info.includes_none


def _short_enough(path: Path | None) -> None:
    if path is not None and not paths.fits_socket(path):
        raise ValueError(f"want a socket's path of at most {paths.MAX_SOCKET_PATH_BYTES} bytes, got {path}")


def _are_addresses(addresses: tuple[str, ...]) -> None:
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"want IP addresses, got {address!r}") from None


def _can_be_weights(weights: Mapping[str, float]) -> None:
    if not weights:
        return
    from edge.domain.routing import check_weights  # for those who have any

    check_weights(weights)


CHECKS: Mapping[tuple[str, str], Callable[[Any], object]] = {
    ("models", "policy"): parse_policy,
    ("models", "allowed_batch_sizes"): check_batch_sizes,
    ("models", "weights"): _can_be_weights,
    ("http", "uds"): _short_enough,
    ("grpc", "uds"): _short_enough,
    ("admin", "uds"): _short_enough,
    ("advertise", "addresses"): _are_addresses,
}


def wanted(key: Key) -> str:
    """What a known key takes, in words: `an integer from 0 to 65535`."""
    return _words(msgspec.inspect.type_info(fields(key[0])[key[-1]].type))


def _words(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType(ge=low, le=high):
            return "an integer" + _range(low, high)
        case msgspec.inspect.FloatType(gt=above, ge=low):
            return "a number above 0" if above is not None else "a number" + _range(low, None)
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(map(str, values))
        case msgspec.inspect.EnumType(cls=cls):
            return "one of " + ", ".join(str(member.value) for member in cls)
        case msgspec.inspect.CustomType():
            return "a path"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.IntType()):
            return "a list of integers"
        case msgspec.inspect.VarTupleType():
            return "a list of strings"
        case msgspec.inspect.DictType(value_type=value):
            return f"a table from names to {_words(value)}"
        case msgspec.inspect.UnionType(types=(first, *_)):
            return f"{_words(first)}, or an empty string for none"
    return "a string"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f" of at least {low}" if high is None else f" from {low} to {high}"
