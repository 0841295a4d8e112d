"""TensorFlow Serving's REST API: a route, then decode, predict, encode.

Rule: the order of the checks is TensorFlow Serving's: route, body, JSON, model, signature, tensors.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable

from edge.domain.errors import EdgeError, InferenceFailed, Overloaded
from edge.domain.ports import Catalog, Predictor
from edge.domain.requests import Payload, PredictRequest, PredictResponse
from edge.frontends.http.admission import Admission
from edge.frontends.http.message import Request, Response
from edge.wire.classes import encode_top, parse_count, top_k
from edge.wire.encoding import Claim
from edge.wire.image import ImagePayload, is_picture
from edge.wire.reply import JSON
from edge.wire.tfserving_errors import error_response
from edge.wire.tfserving_examples import parse_examples
from edge.wire.tfserving_json import parse_predict, read_body
from edge.wire.tfserving_reply import encode_classify, encode_predict, encode_regress
from edge.wire.tfserving_routes import Malformed, Route, route
from edge.wire.tfserving_status import encode_metadata, encode_status

log = logging.getLogger(__name__)

PROTOCOL = "v1"
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)

Encode = Callable[[PredictResponse], bytes]
Parsed = tuple[str, Payload, Encode]


@functools.lru_cache(maxsize=256)
def _route(method: str, target: str) -> Route:
    return route(method, target)


class V1:
    """`refused(protocol, code)` counts what never came to a model. `cors`: pages of any origin may read the answers."""

    def __init__(
        self,
        *,
        predictor: Predictor,
        catalog: Catalog,
        admission: Admission,
        refused: Callable[[str, str], None],
        cors: bool,
    ) -> None:
        self._predictor, self._catalog = predictor, catalog
        self._admission, self._refused = admission, refused
        self._headers = _CORS if cors else ()

    async def __call__(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self._preflight(request)
        try:
            found = _route(request.method, request.target)
        except Malformed as error:
            return self._error(error, None)
        if found.verb in ("status", "metadata"):
            return self._about(found)
        if b"content-encoding" not in request.headers:
            return await self._infer(request, found)
        with self._admission.inflating() as claim:
            return await self._infer(request, found, claim)

    def _preflight(self, request: Request) -> Response:
        origin = request.header(b"origin")
        known = "http://" in origin or "https://" in origin
        return Response(200 if known else 400, b"", JSON, self._headers)

    def _about(self, found: Route) -> Response:
        try:
            if found.verb == "status":
                body = encode_status(self._catalog.status(found.spec.name), found.spec)
            else:
                body = encode_metadata(self._catalog.describe(found.spec))
        except EdgeError as error:
            return self._error(error, found)
        return Response(200, body, JSON, self._headers)

    async def _infer(self, request: Request, found: Route, claim: Claim | None = None) -> Response:
        parsed: Parsed | None = None
        try:
            with self._admission:
                deadline = self._admission.deadline(request)
                body = request.body
                if claim is not None:
                    body = await self._admission.inflated(request, deadline, claim, read_body)
                # A small body is read here and now, without a coroutine: that is most requests.
                if self._admission.is_small(len(body)):
                    parsed = _parse(request, body, found)
                else:
                    parsed = await self._admission.aside(deadline, _parse, request, body, found)
                name, payload, encode = parsed
                response = await self._predictor.predict(
                    PredictRequest(found.spec, payload, name, None, deadline, PROTOCOL, request.caller, request.headers)
                )
                if self._admission.is_small(response.nbytes):
                    answer = encode(response)
                else:
                    answer = await self._admission.aside(deadline, encode, response)
        except EdgeError as error:
            if parsed is None:
                self._refused(PROTOCOL, error.code.value)
            return self._error(error, found)
        return Response(200, answer, JSON, self._headers)

    def _error(self, error: EdgeError, found: Route | None) -> Response:
        if isinstance(error, InferenceFailed):
            log.error("%s: %s", found.spec.name if found else "", error.message)
        status, body = error_response(error, found.verb if found else "predict")
        headers = self._headers
        if isinstance(error, Overloaded):
            headers = (*headers, ("Retry-After", str(math.ceil(error.retry_after_s))))
        return Response(status, body, JSON, headers)


def _parse(request: Request, body: bytes, found: Route) -> Parsed:
    """The signature's name, the payload, and how to write the answer. Raises EdgeError."""
    if found.verb == "classify":
        examples = parse_examples(body, "classify")
        return examples.signature_name, examples.payload, encode_classify
    if found.verb == "regress":
        examples = parse_examples(body, "regress")
        return examples.signature_name, examples.payload, encode_regress
    if is_picture(request.media_type):
        payload = ImagePayload(body, request.media_type)
        top = request.query.get("top")
        return "", payload, _best(parse_count("top", top[0])) if top else _rows
    parsed = parse_predict(body)
    return parsed.signature_name, parsed.payload, _rows if parsed.row else _columns


def _rows(response: PredictResponse) -> bytes:
    return encode_predict(response, row=True)


def _columns(response: PredictResponse) -> bytes:
    return encode_predict(response, row=False)


def _best(count: int) -> Encode:
    def encode(response: PredictResponse) -> bytes:
        best = top_k(response.outputs, response.signature.outputs, response.class_names, count)
        return encode_top(best)

    return encode
