"""The OpenAPI 3.1 document of everything that is answered over HTTP.

Rule 1: a route is a row of `ROUTES`. Rule 2: the statuses of errors come from `edge.wire.status`.
Rule 3: a loaded model gets paths of its own, which OpenAPI puts before the ones with parameters, and there the
shapes and types of its tensors.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import msgspec

from edge.domain.requests import ModelInfo
from edge.domain.tensors import Signature
from edge.wire.classes import MAX_TOP
from edge.wire.image import MEDIA_TYPES, takes_picture
from edge.wire.openapi_schemas import COMMON, STRING, STRINGS, Schema, ref, row_reply, row_request, struct, v2_tensors
from edge.wire.reply import JSON, OCTETS, TEXT
from edge.wire.status import HTTP_STATUS

Content = dict[str, Schema]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `id` is unique; `takes` and `gives` are schemas by media type, `gives` empty for no body.

    `optional`: whether the body may be left out.
    """

    method: str
    path: str
    id: str
    summary: str
    gives: Content
    takes: Content | None = None
    parameters: tuple[str, ...] = ()
    description: str = ""
    optional: bool = False


_PICTURES: Content = {media_type: {} for media_type in MEDIA_TYPES}
_MODEL_V1 = "/v1/models/{model}"
_MODEL_V2 = "/v2/models/{model}"
_TEXT = {TEXT: STRING}

ROUTES: tuple[Route, ...] = (
    Route("post", _MODEL_V1 + ":predict", "predict", "Run a model on JSON or on a picture",
          {JSON: ref("PredictReply")}, {JSON: ref("PredictRequest"), **_PICTURES}, ("top",)),
    Route("post", _MODEL_V1 + ":classify", "classify", "Class labels and scores for each example",
          {JSON: ref("ClassifyReply")}, {JSON: ref("ExamplesRequest")}),
    Route("post", _MODEL_V1 + ":regress", "regress", "One number for each example",
          {JSON: ref("RegressReply")}, {JSON: ref("ExamplesRequest")}),
    Route("get", _MODEL_V1, "status", "The state of each version", {JSON: ref("ModelStatus")}),
    Route("get", _MODEL_V1 + "/metadata", "metadata", "Signatures, as TensorFlow Serving words them",
          {JSON: ref("Metadata")}),
    Route("get", "/v2", "server", "Name, version and extensions of the server", {JSON: ref("V2Server")}),
    Route("get", "/v2/health/live", "live", "Whether the server runs", {}),
    Route("get", "/v2/health/ready", "ready", "Whether every model that should be served answers", {}),
    Route("get", "/v2/models", "models", "The names of all models", {JSON: struct({"models": STRINGS})}),
    Route("get", "/v2/models/stats", "statistics", "Counters of all models", {JSON: ref("V2Statistics")}),
    Route("get", _MODEL_V2, "model", "Inputs and outputs of a model", {JSON: ref("V2Model")}),
    Route("get", _MODEL_V2 + "/ready", "modelReady", "Whether a model answers", {}),
    Route("get", _MODEL_V2 + "/config", "modelConfig", "A model's configuration, as Triton words it",
          {JSON: {"type": "object"}}),
    Route("get", _MODEL_V2 + "/stats", "modelStatistics", "Counters of a model", {JSON: ref("V2Statistics")}),
    Route("post", _MODEL_V2 + "/infer", "infer", "Run a model on named tensors",
          {JSON: ref("V2Reply"), OCTETS: {}}, {JSON: ref("V2Request"), OCTETS: {}}, ("header-length",)),
    Route("post", "/v2/repository/index", "index", "Every model and version that is known", {JSON: ref("V2Index")},
          {JSON: struct({}, ready={"type": "boolean"})}, optional=True),
    Route("post", "/v2/repository/models/{model}/load", "load", "Load a model, or load it again", {},
          {JSON: {"type": "object"}}, optional=True),
    Route("post", "/v2/repository/models/{model}/unload", "unload", "Unload a model", {},
          {JSON: {"type": "object"}}, optional=True),
    Route("get", "/stats", "stats", "What the page shows: models, versions, rates and latencies", {JSON: ref("Stats")}),
    Route("get", "/metrics", "metrics", "Metrics for Prometheus", {**_TEXT, "application/openmetrics-text": STRING}),
    Route("get", "/openapi.json", "openapi", "This document", {JSON: {"type": "object"}}),
    Route("get", "/", "page", "A page for people", {"text/html": STRING}),
)  # fmt: skip


def openapi(models: Sequence[ModelInfo], version: str) -> bytes:
    """The document as JSON. `models`: the ready ones, the newest version of each first; `version`: the server's."""
    routes = [variant for route in ROUTES for variant in _variants(route)]
    named: set[str] = set()
    for info in models:
        suffix = f"/versions/{info.id.version}" if info.id.name in named else ""
        named.add(info.id.name)
        routes += _of_model(info, suffix)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "edge", "version": version, "description": _ABOUT},
            "security": [{}, {"token": []}],
            "paths": paths,
            "components": {
                "schemas": COMMON,
                "parameters": _PARAMETERS,
                "responses": _ERRORS,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _variants(route: Route) -> Iterator[Route]:
    """The route itself, and where a model's version or label may be pinned, those as well."""
    yield route
    pins = {_MODEL_V1: ("version", "label"), _MODEL_V2: ("version",)}
    for prefix, names in pins.items():
        if route.path.startswith(prefix):
            for name in names:
                path = f"{prefix}/{name}s/{{{name}}}{route.path[len(prefix) :]}"
                yield replace(route, path=path, id=f"{route.id}By{name.title()}")


def _of_model(info: ModelInfo, suffix: str) -> list[Route]:
    name, default = quote(info.id.name, safe=""), info.default_signature
    about = f"{info.id}, {info.platform} on {info.device}. Ready versions: {', '.join(map(str, info.ready_versions))}."
    takes: list[Schema] = []
    gives: list[Schema] = []
    for signature in info.signatures.values():
        takes += row_request(signature, named=signature is not default)
        gives += row_reply(signature)
    pictures = _PICTURES if takes_picture(default) else {}
    return [
        Route("post", f"/v1/models/{name}{suffix}:predict", f"predict {info.id}", f"Run {info.id.name}",
              {JSON: {"anyOf": [*gives, ref("TopReply")]}}, {JSON: {"anyOf": takes}, **pictures}, ("top",), about),
        Route("post", f"/v2/models/{name}{suffix}/infer", f"infer {info.id}", f"Run {info.id.name} on named tensors",
              {JSON: _v2_body("V2Reply", default, "outputs"), OCTETS: {}},
              {JSON: _v2_body("V2Request", default, "inputs"), OCTETS: {}}, ("header-length",), about),
    ]  # fmt: skip


def _v2_body(base: str, signature: Signature, side: str) -> Schema:
    specs = signature.inputs if side == "inputs" else signature.outputs
    return {"allOf": [ref(base)], "properties": {side: v2_tensors(specs)}}


def _operation(route: Route) -> dict[str, Any]:
    used = [name for name in ("model", "version", "label") if f"{{{name}}}" in route.path] + list(route.parameters)
    good: dict[str, Any] = {"description": route.summary}
    if route.gives:
        good["content"] = _content(route.gives)
    operation: dict[str, Any] = {
        "operationId": route.id,
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "responses": {"200": good, **{name: {"$ref": f"#/components/responses/{name}"} for name in _ERRORS}},
    }
    if route.description:
        operation["description"] = route.description
    if used:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in used]
    if route.takes is not None:
        operation["requestBody"] = {"required": not route.optional, "content": _content(route.takes)}
    return operation


def _content(schemas: Content) -> dict[str, Any]:
    return {media_type: {"schema": schema} if schema else {} for media_type, schema in schemas.items()}


def _tag(path: str) -> str:
    if path.startswith("/v1/"):
        return "TensorFlow Serving"
    return "Open Inference Protocol" if path.startswith("/v2") else "Server"


def _error_responses() -> dict[str, Any]:
    words: dict[int, list[str]] = {}
    for code, status in HTTP_STATUS.items():
        words.setdefault(status, []).append(code.value.replace("_", " "))
    body = {"content": _content({JSON: ref("Error")})}
    return {str(status): {"description": ", or ".join(words[status]), **body} for status in sorted(words)}


_ERRORS = _error_responses()

_ABOUT = (
    "Models over TensorFlow Serving's REST API and the Open Inference Protocol v2. Pictures (JPEG, PNG, BMP) may be "
    "sent as they are to a model with one image input."
)


def _parameter(name: str, where: str, schema: Schema, about: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": about}


_PARAMETERS = {
    "model": _parameter("model", "path", STRING, "name of the model"),
    "version": _parameter("version", "path", {"type": "integer", "minimum": 0}, "a version that is loaded"),
    "label": _parameter("label", "path", STRING, "a label that a version carries"),
    "top": _parameter(
        "top",
        "query",
        {"type": "integer", "minimum": 1, "maximum": MAX_TOP},
        "answer a picture with this many of the best classes, by name",
    ),
    "header-length": _parameter(
        "Inference-Header-Content-Length",
        "header",
        {"type": "integer", "minimum": 0},
        "bytes of JSON before the binary tensors",
    ),
}
