"""Who may ask, and what is said and counted of those who may not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge.frontends.http.guard import Guard, Policy
from edge.frontends.http.message import Request, Response
from edge.frontends.http.site import Site

HOST = {b"host": b"localhost:8501"}


async def answer(request: Request) -> Response:
    return Response(200)


def site(
    refused: list[tuple[str, str]], *, policy: Policy | None = None, tokens: Sequence[bytes] | None = None
) -> Site:
    return Site(
        guard=Guard(policy or Policy(), tokens),
        v1=answer,
        v2=answer,
        pages=answer,
        refused=lambda protocol, code: refused.append((protocol, code)),
        now=lambda: 0.0,
    )


@pytest.mark.parametrize(
    ("headers", "status", "code", "said"),
    [
        ({b"host": b"evil.example"}, 403, "forbidden", b"'evil.example' is not one of this server's names"),
        ({**HOST, b"origin": b"http://evil.example"}, 403, "forbidden", b"a page of 'http://evil.example'"),
        (HOST, 401, "unauthenticated", b"got none"),
        ({**HOST, b"authorization": b"Bearer wrong"}, 401, "unauthenticated", b"got another token"),
        ({**HOST, b"authorization": b"Basic right"}, 401, "unauthenticated", b"want a bearer token"),
    ],
)
async def test_who_is_turned_away_is_told_why_and_counted_by_its_code(
    headers: dict[bytes, bytes], status: int, code: str, said: bytes
) -> None:
    refused: list[tuple[str, str]] = []
    response = await site(refused, tokens=[b"right"])(Request("GET", "/v2", headers, b""))
    assert (response.status, refused) == (status, [("http", code)])
    assert said in response.body
    assert (("WWW-Authenticate", "Bearer") in response.headers) is (status == 401)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/v2", {**HOST, b"authorization": b"bearer right"}),
        ("/v2", {b"host": b"127.0.0.1", b"authorization": b"Bearer  right "}),
        ("/v2", {b"host": b"[::1]:8501", b"origin": b"http://[::1]:8501", b"authorization": b"Bearer right"}),
        ("/v2/health/live", HOST),
        ("/", {}),
    ],
)
async def test_who_has_a_token_or_asks_for_what_is_open_gets_an_answer(
    target: str, headers: dict[bytes, bytes]
) -> None:
    refused: list[tuple[str, str]] = []
    response = await site(refused, tokens=[b"right"])(Request("GET", target, headers, b""))
    assert (response.status, refused) == (200, [])
