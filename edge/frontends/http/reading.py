"""Bytes of one connection → whole requests, within bounds. No I/O.

Rule 1: a bound is held where it is passed, and not when the request is whole. Rule 2: memory is claimed before a body
is kept; whoever takes the request gives it back. Rule 3: an offer of another protocol is read over: none is spoken.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools

from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.message import (
    CLOSE,
    KEEP_ALIVE,
    PERSISTENT,
    Request,
    Response,
    head_without_upgrade,
    json_error,
)

SMALL_PIECE_BYTES = 4096
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class Refused(Exception):
    """What came is not to be read on; `response` says why."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Reader:
    """`head(expects)` is called when a head is whole; `expects`: the client waits for leave to send its body.

    `whole(request, connection, claimed)` is given each request, what to say of the connection in its answer, and how
    many bytes were claimed for it. `now`: the event loop's clock. The methods `on_…` are the parser's to call.
    `under_way`: a request has begun and is not whole; `claimed`: what is held of it.

    Requests are from `caller`, but one that came together with the one before it is from nobody in particular: of those
    that are sent on without waiting for answers, a whole read would be run before anybody else has his turn.
    """

    def __init__(
        self,
        limits: HttpLimits,
        *,
        claim: Callable[[int], bool],
        now: Callable[[], float],
        head: Callable[[bool], None],
        whole: Callable[[Request, bytes, int], None],
        caller: int = 0,
    ) -> None:
        self._limits, self._claim, self._now, self._head, self._whole = limits, claim, now, head, whole
        self._caller = caller
        self._parser = httptools.HttpRequestParser(self)
        # Bytes since the parser last had something to say: an endless header or trailer shows here.
        self._unheard = 0
        self.claimed = 0
        self._one_ended = self._together = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self.under_way = False
        self._body: list[bytes] = []
        # What comes after a small piece, side by side: each by itself costs many times what was claimed for it.
        self._small = bytearray()
        self._body_bytes = 0

    def feed(self, data: bytes) -> None:
        """Raises Refused."""
        self._one_ended = False
        self._unheard += len(data)
        try:
            while data:
                try:
                    self._parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as offer:
                    data = self._without_upgrade() + data[offer.args[0] :]
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Refused):
                raise cause from None
            raise Refused(json_error(400, f"malformed HTTP request: {error}")) from None
        if self._unheard > self._limits.max_header_bytes:
            raise self._head_too_large()

    def _without_upgrade(self) -> bytes:
        """The head of what was read last, to be read again without its offer of another protocol."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is for proxies")
        head = head_without_upgrade(method, self._url, version, self._headers)
        self._parser = httptools.HttpRequestParser(self)
        self._reset()
        return head

    def on_message_begin(self) -> None:
        self.under_way = True
        self._together = self._one_ended

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"host" and name in self._headers:
            raise Refused(json_error(400, "want one Host header, got two"))
        self._headers.setdefault(name, value)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._limits.max_header_bytes:
            raise self._head_too_large()

    def on_headers_complete(self) -> None:
        self._unheard = 0
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise self._body_too_large()
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            raise Refused(json_error(400, "want a Host header (RFC 9112, section 3.2)"))
        self._head(b"expect" in self._headers and self._headers[b"expect"].lower() == b"100-continue")

    def on_body(self, body: bytes) -> None:
        self._unheard = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._body_too_large()
        if not self._claim(len(body)):
            said = "too many bytes of requests are held (max_inflight_body_bytes)"
            raise Refused(json_error(503, said, (("Retry-After", "1"),)))
        self.claimed += len(body)
        if self._small or (self._body and len(body) < SMALL_PIECE_BYTES):
            self._small += body
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._unheard = 0
        if self._parser.should_upgrade():
            return  # read again: see _without_upgrade
        body = self._body[0] if len(self._body) == 1 and not self._small else b"".join((*self._body, self._small))
        target = self._url if self._url.startswith(b"/") else self._origin_form()
        request = Request(
            self._parser.get_method().decode("latin-1"),
            target.decode("latin-1"),
            self._headers,
            body,
            self._now(),
            0 if self._together else self._caller,
        )
        self._one_ended = True
        connection, claimed, self.claimed = self._connection(), self.claimed, 0
        self._reset()
        self._whole(request, connection, claimed)

    def _origin_form(self) -> bytes:
        """The path of `http://host/path`, as proxies are asked; its host counts, not the header (RFC 9112, section 3.2.2)."""
        found = _ABSOLUTE.match(self._url)
        if found is None:
            return self._url
        self._headers[b"host"] = found[1]
        path = self._url[found.end() :]
        return path if path.startswith(b"/") else b"/" + path

    def _connection(self) -> bytes:
        if not self._parser.should_keep_alive():
            return CLOSE
        # Only HTTP/1.0 needs to be told, and it has asked.
        asked = b"connection" in self._headers and self._parser.get_http_version() == "1.0"
        return KEEP_ALIVE if asked else PERSISTENT

    def _head_too_large(self) -> Refused:
        limit = self._limits.max_header_bytes
        return Refused(json_error(431, f"the request's head is larger than {limit} bytes (max_header_bytes)"))

    def _body_too_large(self) -> Refused:
        limit = self._limits.max_body_bytes
        return Refused(json_error(413, f"the body is larger than {limit} bytes (max_body_bytes)"))
