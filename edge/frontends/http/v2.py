"""The Open Inference Protocol v2: a route, then decode, predict, encode."""

from __future__ import annotations

from collections.abc import Callable

from edge.domain.errors import ControlFailed, EdgeError, Forbidden
from edge.domain.models import ModelSpec
from edge.domain.ports import Catalog, Control, Predictor
from edge.domain.requests import PredictResponse
from edge.frontends.http.admission import Admission
from edge.frontends.http.message import Request, Response
from edge.wire import v2_metadata, v2_repository
from edge.wire.classes import parse_count
from edge.wire.encoding import Claim, compress, inflate, negotiate
from edge.wire.image import ImagePayload, is_picture
from edge.wire.reply import Reply
from edge.wire.v2_errors import control_failed, error_response
from edge.wire.v2_payload import RequestedOutput
from edge.wire.v2_reply import encode_infer
from edge.wire.v2_request import ParsedInfer, parse_header_length, parse_infer
from edge.wire.v2_routes import Kind, V2Route, refusal, route

PROTOCOL = "v2"


class V2:
    """`refused(protocol, code)` counts what never came to a model. `control` is None where HTTP may not control."""

    def __init__(
        self,
        *,
        predictor: Predictor,
        catalog: Catalog,
        control: Control | None,
        admission: Admission,
        refused: Callable[[str, str], None],
        version: str,
    ) -> None:
        self._predictor, self._catalog, self._control = predictor, catalog, control
        self._admission, self._refused = admission, refused
        self._version = version

    async def __call__(self, request: Request) -> Response:
        found = route(request.method, request.path)
        if found.kind is Kind.INFER:
            if b"content-encoding" not in request.headers:
                return await self._infer(request, found.spec)
            with self._admission.inflating() as claim:
                return await self._infer(request, found.spec, claim)
        return respond(await self._other(request, found))

    async def _infer(self, request: Request, spec: ModelSpec, claim: Claim | None = None) -> Response:
        parsed: ParsedInfer | None = None
        try:
            with self._admission:
                deadline = self._admission.deadline(request)
                body = request.body
                if claim is not None:
                    body = await self._admission.inflated(request, deadline, claim, inflate)
                length = _head_length(request)
                if is_picture(request.media_type):
                    parsed = self._picture(request, body, spec)
                # A small head is read here and now, without a coroutine: that is most requests.
                elif self._admission.is_small(len(body) if length is None else length):
                    parsed = parse_infer(body, length, spec)
                else:
                    parsed = await self._admission.aside(deadline, parse_infer, body, length, spec)
                wish = parsed.request(
                    spec,
                    now=request.arrived,
                    deadline=deadline,
                    protocol=PROTOCOL,
                    caller=request.caller,
                    carried=request.headers,
                )
                response = await self._predictor.predict(wish)
                return await self._encode(request, response, parsed, deadline)
        except EdgeError as error:
            if parsed is None:
                self._refused(PROTOCOL, error.code.value)
            return respond(error_response(error, model=spec.name, request_id=parsed.id if parsed else ""))

    def _picture(self, request: Request, body: bytes, spec: ModelSpec) -> ParsedInfer:
        """A picture as the body. `?classification=K` asks for the K best classes of each output."""
        payload = ImagePayload(body, request.media_type)
        asked = request.query.get("classification")
        if not asked:
            return ParsedInfer(payload)
        count = parse_count("classification", asked[0])
        names = self._catalog.describe(spec).default_signature.outputs
        return ParsedInfer(payload, outputs=tuple(RequestedOutput(name, False, count) for name in names))

    async def _encode(
        self, request: Request, response: PredictResponse, parsed: ParsedInfer, deadline: float
    ) -> Response:
        if self._admission.is_small(response.nbytes):
            headers, body = encode_infer(response, parsed)
        else:
            headers, body = await self._admission.aside(deadline, encode_infer, response, parsed)
        wanted = request.headers.get(b"accept-encoding")
        if wanted is not None:
            encoding = negotiate(wanted.decode("latin-1"))
            headers, body = await self._admission.read(len(body), deadline, compress, headers, body, encoding)
        return respond(Reply(200, headers, body))

    async def _other(self, request: Request, found: V2Route) -> Reply:
        match found.kind:
            case Kind.NOT_FOUND | Kind.WRONG_VERB:
                return refusal(found)
            case Kind.LIVE:
                return v2_metadata.health(True)
            case Kind.READY:
                return v2_metadata.health(self._catalog.ready)
            case Kind.SERVER_METADATA:
                return v2_metadata.server_metadata("edge", self._version, control=self._control is not None)
            case Kind.MODELS:
                return v2_metadata.model_names(self._catalog.models())
            case Kind.STATS:
                return v2_metadata.statistics(self._catalog.models())
            case Kind.REPOSITORY_INDEX:
                return self._index(request)
            case Kind.REPOSITORY_LOAD | Kind.REPOSITORY_UNLOAD:
                return await self._control_model(request, found)
            case _:
                return self._about(found)

    def _about(self, found: V2Route) -> Reply:
        """Metadata, configuration, statistics and readiness of one model."""
        try:
            info = self._catalog.describe(found.spec)
        except EdgeError as error:
            if found.kind is Kind.MODEL_READY:
                return v2_metadata.model_ready(False)
            return error_response(error, model=found.spec.name)
        if found.kind is Kind.MODEL_READY:
            return v2_metadata.model_ready(True)
        if found.kind is Kind.MODEL_CONFIG:
            return v2_metadata.model_config(info)
        if found.kind is Kind.MODEL_STATS:
            return v2_metadata.model_statistics(self._catalog.status(found.spec.name), found.spec)
        return v2_metadata.model_metadata(info)

    def _index(self, request: Request) -> Reply:
        try:
            ready_only = v2_repository.wants_ready_only(request.body)
        except EdgeError as error:
            return error_response(error)
        return v2_repository.index(self._catalog.models(), ready_only=ready_only)

    async def _control_model(self, request: Request, found: V2Route) -> Reply:
        name = found.spec.name
        action = "load" if found.kind is Kind.REPOSITORY_LOAD else "unload"
        try:
            v2_repository.check_control(request.body)
            if self._control is None:
                raise Forbidden("explicit model load / unload is not allowed (http.model_control is off)")
            await (self._control.load(name) if action == "load" else self._control.unload(name))
        except ControlFailed as error:
            self._refused(PROTOCOL, error.code.value)
            return control_failed(error, model=name, action=action, known=self._catalog.status(name) is not None)
        except EdgeError as error:
            self._refused(PROTOCOL, error.code.value)
            return error_response(error, model=name)
        return v2_repository.controlled()


def _head_length(request: Request) -> int | None:
    """Bytes of JSON before the tensors, where the request says so. Raises InvalidInput."""
    given = request.headers.get(b"inference-header-content-length")
    return None if given is None else parse_header_length(given.decode("latin-1"))


def respond(reply: Reply) -> Response:
    """A codec's reply as this front end's."""
    others = [(name, value) for name, value in reply.headers.items() if name != "Content-Type"]
    return Response(reply.status, reply.body, reply.headers.get("Content-Type", ""), others)
