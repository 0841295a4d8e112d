"""Which part of TensorFlow Serving's REST API a request asks for.

Rule 1: nothing is matched but the path; the query is there for the texts of complaints only, which TensorFlow
Serving would take for a part of the name.
Rule 2: names are percent-decoded after the match, so a name may hold any character. It is a key to look up, never
a path: one with `/` or `..` is a model that nobody has.

Source: TensorFlow Serving's `model_servers/http_rest_api_util.cc`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

from edge.domain.errors import InvalidInput
from edge.domain.models import MAX_VERSION, ModelSpec

Verb = Literal["predict", "classify", "regress", "status", "metadata"]

_WHICH = r"(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_POST = re.compile(rf"(?i)/v1/models/([^/:]+){_WHICH}:(classify|regress|predict)")
_GET = re.compile(rf"(?i)/v1/models(?:/([^/:]+))?{_WHICH}(?:/(metadata))?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Route:
    verb: Verb
    spec: ModelSpec


class Malformed(InvalidInput):
    """No route. `message` is empty where TensorFlow Serving answers with an empty body."""


def route(method: str, raw_path: str) -> Route:
    """`raw_path` is the request's target as it was sent, percent-encoded, the query included. Raises Malformed."""
    path = raw_path.partition("#")[0].partition("?")[0]
    pattern = {"GET": _GET, "POST": _POST}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise Malformed(f"Malformed request: {method} {raw_path}")
    name, version, label, verb = match.groups()
    if method == "POST" and verb not in ("classify", "regress", "predict"):
        raise Malformed(f"Malformed request: {method} {raw_path}")
    if name is None:
        raise Malformed("Missing model name in request.")
    if method == "GET":
        verb = "metadata" if verb == "metadata" else "status"
    return Route(cast(Verb, verb), ModelSpec(_decode(name), _version(version), label and _decode(label)))


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # int() has a bound of its own on the number of digits.
    significant = digits.lstrip("0") or "0"
    if len(significant) > len(str(MAX_VERSION)) or int(significant) > MAX_VERSION:
        raise Malformed("")
    return int(significant)


def _decode(name: str) -> str:
    if "%" not in name and name.isascii():
        return name
    if _BAD_ESCAPE.search(name):
        raise Malformed("")
    return unquote_to_bytes(name.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
