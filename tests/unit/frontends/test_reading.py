"""What the reader of requests holds."""

from __future__ import annotations

import tracemalloc

from edge.frontends.http.listener import HttpLimits
from edge.frontends.http.reading import Reader


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
