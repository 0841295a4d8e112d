"""What the reader of requests holds."""

from __future__ import annotations

import tracemalloc

import pytest

from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.message import Request
from edge.frontends.http.reading import Reader, Refused


def test_a_body_in_tiny_chunks_costs_no_more_than_was_claimed_for_it() -> None:
    bodies: list[bytes] = []
    reader = Reader(
        HttpLimits(),
        claim=lambda _: True,
        now=lambda: 0.0,
        head=lambda _: None,
        whole=lambda request, *_: bodies.append(request.body),
    )
    large, chunks = b"x" * 10_000, b"2\r\nab\r\n" * 10_000
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()
    try:
        for _ in range(10):
            reader.feed(chunks)
            reader.feed(b"2710\r\n" + large + b"\r\n")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * reader.claimed
    reader.feed(b"0\r\n\r\n")
    assert bodies == [(b"ab" * 10_000 + large) * 10]


def requests(data: bytes) -> list[Request]:
    found: list[Request] = []
    reader = Reader(
        HttpLimits(),
        claim=lambda _: True,
        now=lambda: 0.0,
        head=lambda _: None,
        whole=lambda request, *_: found.append(request),
    )
    reader.feed(data)
    return found


def test_requests_that_are_sent_on_without_waiting_are_from_nobody_in_particular() -> None:
    found: list[int] = []
    reader = Reader(
        HttpLimits(),
        claim=lambda _: True,
        now=lambda: 0.0,
        head=lambda _: None,
        whole=lambda request, *_: found.append(request.caller),
        caller=7,
    )
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
    offering = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    for read in (one, one[:9], one[9:], one + one + one[:9], one[9:], offering, one):
        reader.feed(read)
    assert found == [7, 7, 7, 0, 0, 7, 7]


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://box:8501/v1/models/m", b"box:8501", "/v1/models/m"),
        ("HTTPS://box", b"box", "/"),
        ("http://box?a=1", b"box", "/?a=1"),
        ("/v1//x://y", b"header", "/v1//x://y"),
        ("*", b"header", "*"),
    ],
)
def test_an_absolute_uri_is_its_path_and_its_host_counts(url: str, host: bytes, target: str) -> None:
    (request,) = requests(f"OPTIONS {url} HTTP/1.1\r\nHost: header\r\n\r\n".encode())
    assert (request.target, request.headers[b"host"]) == (target, host)


def test_two_hosts_are_refused_empty_ones_too() -> None:
    for host in (b"", b"a"):
        with pytest.raises(Refused, match="400"):
            requests(b"GET / HTTP/1.1\r\nHost: %s\r\nHost: %s\r\n\r\n" % (host, host))
