"""Which route of the Open Inference Protocol v2 a path is.

Rule 1: the whole path must match; a slash too many is another path, and so is a version that is no number.
Rule 2: a path that exists is looked up before its verb: an unknown one is 404, a wrong verb 405.
Source: https://github.com/kserve/open-inference-protocol, and the model repository and statistics extensions in
https://github.com/triton-inference-server/server/tree/main/docs/protocol. `GET /v2/models` is KServe's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from urllib.parse import unquote

from edge.domain.models import MAX_VERSION, ModelSpec
from edge.wire.reply import TEXT, Reply
from edge.wire.v2_errors import error_body


class Kind(Enum):
    """What a request wants; `verb` is the one that goes with it."""

    def __new__(cls, name: str, verb: str) -> Kind:
        member = object.__new__(cls)
        member._value_ = name
        member.verb = verb
        return member

    verb: str

    SERVER_METADATA = "server_metadata", "GET"
    LIVE = "live", "GET"
    READY = "ready", "GET"
    MODELS = "models", "GET"
    STATS = "stats", "GET"
    MODEL_METADATA = "model_metadata", "GET"
    MODEL_READY = "model_ready", "GET"
    MODEL_CONFIG = "model_config", "GET"
    MODEL_STATS = "model_stats", "GET"
    INFER = "infer", "POST"
    REPOSITORY_INDEX = "repository_index", "POST"
    REPOSITORY_LOAD = "repository_load", "POST"
    REPOSITORY_UNLOAD = "repository_unload", "POST"
    NOT_FOUND = "not_found", ""
    WRONG_VERB = "wrong_verb", ""


_NO_MODEL = ModelSpec("")


@dataclass(frozen=True, slots=True)
class V2Route:
    """`spec` names the model where the route has one; `allow` is the verb that a WRONG_VERB should have been."""

    kind: Kind
    spec: ModelSpec = _NO_MODEL
    allow: str = ""


_PLAIN = {
    "/v2": Kind.SERVER_METADATA,
    "/v2/health/live": Kind.LIVE,
    "/v2/health/ready": Kind.READY,
    "/v2/models": Kind.MODELS,
    "/v2/models/stats": Kind.STATS,
    "/v2/repository/index": Kind.REPOSITORY_INDEX,
}
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]{1,19}))?(?:/(infer|ready|config|stats))?")
_REPOSITORY = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")
_UNDER_MODEL = {
    None: Kind.MODEL_METADATA,
    "infer": Kind.INFER,
    "ready": Kind.MODEL_READY,
    "config": Kind.MODEL_CONFIG,
    "stats": Kind.MODEL_STATS,
}
_NOT_FOUND = V2Route(Kind.NOT_FOUND)


@lru_cache(maxsize=256)
def route(method: str, path: str) -> V2Route:
    """The route of a request line. `path` is as it came: percent-encoded; a query after it is ignored. Never raises."""
    found = _find(path.partition("?")[0])
    if found.kind is not Kind.NOT_FOUND and found.kind.verb != method:
        return V2Route(Kind.WRONG_VERB, found.spec, allow=found.kind.verb)
    return found


def refusal(found: V2Route) -> Reply:
    """The reply to a route of kind NOT_FOUND or WRONG_VERB."""
    if found.kind is Kind.NOT_FOUND:
        return Reply(404, {"Content-Type": TEXT}, error_body("Not Found"))
    return Reply(405, {"Content-Type": TEXT, "Allow": found.allow}, error_body("Method Not Allowed"))


def _find(path: str) -> V2Route:
    if plain := _PLAIN.get(path):
        return V2Route(plain)
    if match := _MODEL.fullmatch(path):
        name, version = _decoded(match[1]), int(match[2]) if match[2] else None
        if name and (version is None or version <= MAX_VERSION):
            return V2Route(_UNDER_MODEL[match[3]], ModelSpec(name, version))
    elif match := _REPOSITORY.fullmatch(path):
        name = _decoded(match[1])
        kind = Kind.REPOSITORY_LOAD if match[2] == "load" else Kind.REPOSITORY_UNLOAD
        if name:
            return V2Route(kind, ModelSpec(name))
    return _NOT_FOUND


def _decoded(segment: str) -> str:
    """The model's name, or nothing where the segment does not spell one."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return ""
