"""What a version says of itself in its `model.toml`. Pure: text in, options out.

Rule: what nobody knows is refused, by its name; a typing error that is silently ignored is found in production.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from edge.domain.batch_sizes import MAX_BATCH_SIZE, check_batch_sizes
from edge.domain.errors import LoadError
from edge.domain.models import ImageOptions, ModelOptions

MODEL_TOML = "model.toml"
MAX_MODEL_TOML_BYTES = 64 * 1024
MAX_SHOWN = 200
"""Characters of a value that is not what was wanted."""


def override_options(options: ModelOptions, text: str) -> ModelOptions:
    """The options with a version's `model.toml` applied: `dequantize`, `lane`, `max_batch`, what is said of sharing runs, and the table `[image]`.

    Only what belongs to a model may be said there; devices, threads and queues are the device's own affair.
    Raises LoadError naming the key, what was wanted and what came.
    """
    table = _parse(text)
    image = table.pop("image", {})
    if not isinstance(image, dict):
        raise LoadError(f"{MODEL_TOML}: image: want a table, got {_shown(image)}")
    top = {key: _checked("", key, value, _TOP) for key, value in table.items()}
    inner = {key: _checked("image.", key, value, _IMAGE) for key, value in image.items()}
    if inner.get("std") == 0:
        raise LoadError(f"{MODEL_TOML}: image.std: want a number other than 0")
    if "allowed_batch_sizes" in top:
        top["allowed_batch_sizes"] = tuple(top["allowed_batch_sizes"])
    changed = replace(options, **top, image=replace(options.image, **inner))
    try:
        check_batch_sizes(changed.allowed_batch_sizes, changed.max_batch_size)
    except ValueError as error:
        raise LoadError(f"{MODEL_TOML}: allowed_batch_sizes: {error}") from None
    return changed


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_MODEL_TOML_BYTES:
        raise LoadError(f"{MODEL_TOML}: want at most {MAX_MODEL_TOML_BYTES} characters, got {len(text)}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a plain ValueError
        raise LoadError(f"{MODEL_TOML}: {error}") from None


def _shown(value: object) -> str:
    """What came, in few words: some values are too deep or too long to be written out at all."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__} beyond all measure"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


_Rule = tuple[str, Callable[[Any], bool]]


def _one_of(owner: type, key: str) -> _Rule:
    """The values that the field's own Literal allows."""
    hint = get_type_hints(owner)[key]
    return " or ".join(repr(word) for word in get_args(hint)), lambda value: value in get_args(hint)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_rows(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_BATCH_SIZE


_ROWS: _Rule = (f"an integer from 0 to {MAX_BATCH_SIZE}", _is_rows)
_TOP: Mapping[str, _Rule] = {
    "dequantize": ("true or false", lambda value: isinstance(value, bool)),
    "lane": _one_of(ModelOptions, "lane"),
    "max_batch": _ROWS,
    "max_batch_size": _ROWS,
    "batch_timeout_s": ("a number from 0", lambda value: _is_number(value) and value >= 0),
    "allowed_batch_sizes": ("a list of integers", lambda value: isinstance(value, list) and all(map(_is_rows, value))),
    "pad_variable_length_inputs": ("true or false", lambda value: isinstance(value, bool)),
}
_IMAGE: Mapping[str, _Rule] = {
    "resize": _one_of(ImageOptions, "resize"),
    "resample": _one_of(ImageOptions, "resample"),
    "channels": _one_of(ImageOptions, "channels"),
    "mean": ("a number", _is_number),
    "std": ("a number", _is_number),
}
KEYS = frozenset(_TOP) | {f"image.{key}" for key in _IMAGE}


def _checked(table: str, key: str, value: Any, rules: Mapping[str, _Rule]) -> Any:
    rule = rules.get(key)
    if rule is None:
        raise LoadError(f"{MODEL_TOML}: {table}{key}: no such key; want {', '.join(rules)}")
    want, holds = rule
    if not holds(value):
        raise LoadError(f"{MODEL_TOML}: {table}{key}: want {want}, got {_shown(value)}")
    return value
