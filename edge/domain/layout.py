"""What lies where on disk, and how its small files read. Pure: text in, values out.

<models>/<name>/<version>/   model.tflite or saved_model.pb, labels.txt, golden.npz, model.toml
<models>/<name>/aspired.json what the agent wants of this model
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.domain.models import MAX_VERSION, Platform, Swap

ASPIRED_FILE = "aspired.json"
ASPIRED_FORMAT = "edge-aspired/1"
MAX_ASPIRED_BYTES = 1 << 20
MODEL_FILES: Mapping[str, Platform] = {
    "model.tflite": Platform.TFLITE,
    "saved_model.pb": Platform.SAVEDMODEL,
}

_DIGITS = re.compile(r"[0-9]{1,64}\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)


def is_model_name(name: str) -> bool:
    return _NAME.match(name) is not None


def version_of(directory: str) -> int | None:
    """The version that a directory's name stands for (`00000123` is 123), or None if it is none."""
    if not _DIGITS.match(directory):
        return None
    version = int(directory)
    return version if version <= MAX_VERSION else None


@dataclass(frozen=True, slots=True)
class AspiredFile:
    """What `aspired.json` says."""

    generation: int
    versions: tuple[int, ...]
    fallback: int | None
    labels: Mapping[str, int] = field(default_factory=dict)
    swap: Swap = Swap.BESIDE


def parse_aspired(data: bytes) -> AspiredFile:
    """Raises ValueError that says what was wanted and what came."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"want an object, got {type(document).__name__}")
    got = document.get("format")
    if got != ASPIRED_FORMAT:
        raise ValueError(f"format: want {ASPIRED_FORMAT!r}, got {got!r}")
    fallback = document.get("fallback")
    return AspiredFile(
        generation=_version(document, "generation"),
        versions=_versions(document.get("versions")),
        fallback=None if fallback is None else _version(document, "fallback"),
        labels=_labels(document.get("labels", {})),
        swap=_swap(document.get("swap", "beside")),
    )


def _version(document: Mapping[str, Any], key: str) -> int:
    return _integer(key, document.get(key))


def _integer(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_VERSION:
        raise ValueError(f"{key}: want an integer from 0 to {MAX_VERSION}, got {value!r}")
    return value


def _versions(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"versions: want a list of integers, got {value!r}")
    return tuple(_integer("versions", each) for each in value)


def _labels(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise ValueError(f"labels: want an object from label to version, got {value!r}")
    return {_label(label): _integer(f"labels.{label}", version) for label, version in value.items()}


def _label(label: str) -> str:
    """JSON can spell halves of characters, which no answer could say again."""
    if any("\ud800" <= character <= "\udfff" for character in label):
        raise ValueError(f"labels: want text, got {label!r}")
    return label


def _swap(value: object) -> Swap:
    try:
        return Swap(value)
    except ValueError:
        raise ValueError(f"swap: want 'beside' or 'replace', got {value!r}") from None
