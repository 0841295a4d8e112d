"""The same messages in protobuf's JSON form, as which some keep their model config.

Source: https://protobuf.dev/programming-guides/json/: names in snake_case or lowerCamelCase, 64-bit integers as numbers or
strings, enumerations as names or numbers, wrapped values bare, null for what is not there.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edge.config.tfserving.messages import INTEGERS, Enum, Field, Message

MAX_DIGITS = 20


def parse_json(text: str, message: Message) -> dict[str, Any]:
    """What `text.parse_text` would give. Raises ValueError, which begins with the place of what is wrong."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise ValueError(f"{line}:{column}: {getattr(error, 'msg', error)}") from None
    return _message(tree, message, "")


def _message(value: Any, message: Message, at: str) -> dict[str, Any]:
    if message.name.endswith("Value") and message.name.startswith("google.protobuf.") and not isinstance(value, dict):
        return {"value": _value(value, message.fields["value"], at)}
    if not isinstance(value, dict):
        raise ValueError(f"{at or 'the file'}: want an object, got {_shown(value)}")
    names = {_camel(name): name for name in message.fields} | {name: name for name in message.fields}
    found: dict[str, Any] = {}
    for key, each in value.items():
        place = f"{at}.{key}" if at else key
        if key not in names:
            raise ValueError(f'{place}: Message type "{message.name}" has no field named "{key}".')
        name = names[key]
        if name in found:
            raise ValueError(f'{place}: Non-repeated field "{name}" is specified multiple times.')
        if each is not None:
            _check_alone(message, name, found, place)
            found[name] = _field(each, message.fields[name], place)
    return found


def _check_alone(message: Message, name: str, found: dict[str, Any], place: str) -> None:
    group = message.oneof.get(name)
    other = next((each for each in found if group and message.oneof.get(each) == group), None)
    if other is not None:
        raise ValueError(
            f'{place}: Field "{name}" is specified along with field "{other}", another member of oneof "{group}".'
        )


def _field(value: Any, field: Field, at: str) -> Any:
    if field.is_map:
        assert isinstance(field.kind, Message)
        if not isinstance(value, dict):
            raise ValueError(f"{at}: want an object, got {_shown(value)}")
        return {key: _value(each, field.kind.fields["value"], f"{at}.{key}") for key, each in value.items()}
    if field.repeated:
        if not isinstance(value, list):
            raise ValueError(f"{at}: want a list, got {_shown(value)}")
        return [_value(each, field, f"{at}[{index}]") for index, each in enumerate(value)]
    return _value(value, field, at)


def _value(value: Any, field: Field, at: str) -> Any:
    kind = field.kind
    if isinstance(kind, Message):
        return _message(value, kind, at)
    if isinstance(kind, Enum):
        if isinstance(value, str) and value in kind.values:
            return kind.values[value]
        kind = "int32"
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "double" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in INTEGERS and (number := _integer(value)) is not None:
        low, high = INTEGERS[kind]
        if low <= number <= high:
            return number
    raise ValueError(f"{at}: want {kind}, got {_shown(value)}")


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= MAX_DIGITS and re.fullmatch(r"-?[0-9]+", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
