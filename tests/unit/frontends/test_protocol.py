"""The HTTP layer over real sockets, with a handler that says what it got."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.listener import Listener
from edge.frontends.http.message import Request, Response
from tests.waiting import until

Handler = Callable[[Request], Awaitable[Response]]


async def echo(request: Request) -> Response:
    return Response(200, f"{request.method} {request.target} {len(request.body)}".encode())


@asynccontextmanager
async def served(
    handler: Handler = echo, refused: Callable[[str, str], None] = lambda *_: None, **limits: float
) -> AsyncIterator[tuple[Listener, int]]:
    async def handle(request: Request) -> Response:
        return await handler(request)

    listener = Listener(handle, HttpLimits(tick_s=0.02, **limits), refused=refused)  # type: ignore[arg-type]
    port = await listener.listen_tcp("127.0.0.1", 0)
    try:
        yield listener, port
    finally:
        await listener.close(0.1)


async def talk(port: int, data: bytes) -> bytes:
    """Send, and read until the server hangs up or has been silent for a while after an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(-1), 5)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def get(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(request: Request) -> Response:
        if request.target == "/1":
            await asyncio.sleep(0.02)
        return Response(200, request.target.encode())

    async with served(slow_first) as (_, port):
        got = await talk(port, get("/1") + get("/2") + get("/3", "Connection: close"))
    assert [got.index(each) for each in (b"/1", b"/2", b"/3")] == sorted(got.index(e) for e in (b"/1", b"/2", b"/3"))
    assert got.count(b"200 OK") == 3


async def test_what_came_whole_before_garbage_is_answered_before_the_garbage_is_refused() -> None:
    async with served(echo) as (_, port):
        got = await talk(port, b"".join(get(f"/{number}") for number in range(100)) + b"no request\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200"] * 100 + [b"400"]


async def test_a_client_that_sends_on_without_waiting_leaves_others_their_turn() -> None:
    seen: list[str] = []

    async def note(request: Request) -> Response:
        seen.append(request.target)
        if request.target == "/0":
            other.write(get("/other"))
        return Response(200)

    many = 400
    async with served(note) as (_, port):
        _, other = await asyncio.open_connection("127.0.0.1", port)
        sent = b"".join(get(f"/{n}") for n in range(many - 1))
        got = await talk(port, sent + get(f"/{many - 1}", "Connection: close"))
        other.close()
    assert got.count(b"200 OK") == many
    assert seen.index("/other") < many // 2
    assert [each for each in seen if each != "/other"] == [f"/{n}" for n in range(many)]


async def test_a_body_over_the_bound_is_refused_before_it_is_sent() -> None:
    async with served(max_body_bytes=10) as (_, port):
        got = await talk(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_over_the_bound_is_refused_when_it_passes_it() -> None:
    async with served(max_body_bytes=10) as (_, port):
        got = await talk(
            port, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n"
        )
    assert got.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_is_put_together() -> None:
    async with served() as (_, port):
        chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        got = await talk(
            port, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
        )
    assert got.endswith(b"POST / 5")


async def test_an_endless_head_and_endless_trailers_are_refused() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    many = b"".join(b"x-%d: y\r\n" % n for n in range(1_000))
    for sent in (head + many, head + b"x: " + b"y" * 400_000, chunked + many, chunked + b"x: " + b"y" * 400_000):
        async with served(max_header_bytes=4_096) as (_, port):
            got = await talk(port, sent)
        assert got.startswith(b"HTTP/1.1 431 ")


async def test_what_is_not_http_is_told_so() -> None:
    for sent in (b"\x16\x03\x01\x02\x00 hello tls\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        async with served() as (_, port):
            got = await talk(port, sent)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"malformed HTTP request" in got


async def test_an_offer_of_another_protocol_is_passed_over() -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
    post = f"POST /a HTTP/1.1\r\nHost: x\r\n{offer}\r\nContent-Length: 3\r\n\r\nabc".encode()
    chunked = (
        f"POST /b HTTP/1.1\r\nHost: x\r\n{offer}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n".encode()
    )
    async with served() as (_, port):
        got = await talk(port, post + chunked + get("/c", offer) + get("/d", "Connection: close"))
    for answer in (b"POST /a 3", b"POST /b 2", b"GET /c 0", b"GET /d 0"):
        assert answer in got
    assert got.count(b"HTTP/1.1 ") == 4


async def test_a_tunnel_is_refused_once() -> None:
    async with served() as (_, port):
        got = await talk(port, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1


async def test_a_client_of_http_1_0_is_kept_only_if_it_asks_and_is_told_so() -> None:
    async with served() as (_, port):
        asked = await talk(port, b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n")
    assert asked.count(b"200 OK") == 2
    assert asked.count(b"Connection: keep-alive\r\n") == 1
    assert asked.count(b"Connection: close\r\n") == 1


async def test_http_1_1_wants_one_host() -> None:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"):
        async with served() as (_, port):
            got = await talk(port, sent)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"Host header" in got


async def test_two_lengths_that_disagree_are_refused() -> None:
    async with served() as (_, port):
        got = await talk(
            port,
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        )
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1") == 1


async def test_a_slow_head_and_a_slow_body_are_hung_up_on() -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123"
    for sent in (b"GET / HT", body):
        async with served(header_timeout_s=0.1, body_timeout_s=0.1) as (_, port):
            got = await talk(port, sent)
        assert got.startswith(b"HTTP/1.1 408 ")


async def test_a_body_of_which_nothing_comes_is_told_so() -> None:
    async with served(body_timeout_s=0.05, keepalive_s=30) as (_, port):
        got = await talk(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with served(keepalive_s=0.1, header_timeout_s=0.1) as (_, port):
        got = await talk(port, get("/"))
        assert got.count(b"HTTP/1.1") == 1
        assert await talk(port, b"") == b""


async def test_a_client_that_goes_away_cancels_its_request() -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: Request) -> Response:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    async with served(hang) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        await asyncio.wait_for(running.wait(), 5)
        writer.transport.abort()
        await asyncio.wait_for(cancelled.wait(), 5)
        await until(lambda: not listener.connections)
        await until(lambda: listener.claim(256 << 20))  # the body's bytes were given back


async def test_bytes_of_bodies_are_bounded_over_all_connections() -> None:
    async with served(max_inflight_body_bytes=8) as (listener, port):
        assert listener.claim(5)
        got = await talk(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd")
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in got
        listener.release(5)
        got = await talk(port, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd")
        assert got.startswith(b"HTTP/1.1 200 ")


async def test_one_connection_too_many_is_told_so() -> None:
    async with served(max_connections=1) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: listener.connections)
        assert (await talk(port, b"")).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await writer.wait_closed()


async def test_a_bug_is_a_500_without_a_traceback() -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError("secret")

    async with served(broken) as (_, port):
        got = await talk(port, get("/", "Connection: close"))
    assert got.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in got


async def test_head_has_no_body_and_expect_is_answered() -> None:
    async with served() as (_, port):
        got = await talk(port, b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert got.endswith(b"Content-Length: 9\r\n\r\n")
        got = await talk(
            port,
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        )
        assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_a_slow_reader_is_hung_up_on_and_holds_back_its_own_requests_only() -> None:
    asked = 0

    async def answer(request: Request) -> Response:
        nonlocal asked
        asked += request.target == "/large"
        return Response(200, b"x" * (8 << 20) if request.target == "/large" else b"")

    async with served(answer, send_timeout_s=0.1) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get("/large") * 5)
        async with asyncio.timeout(5):
            await reader.read(1)
            assert (await talk(port, get("/", "Connection: close"))).startswith(b"HTTP/1.1 200 ")
            assert asked == 1, "the others wait until the first is taken"
            await until(lambda: not listener.connections)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_client_that_reads_slowly_but_steadily_gets_all_of_its_answer() -> None:
    async def large(_: Request) -> Response:
        return Response(200, b"x" * (8 << 20))

    async with served(large, send_timeout_s=0.1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(get("/", "Connection: close"))
        took, size, start = 0.0, 0, asyncio.get_running_loop().time()
        while piece := await reader.read(1 << 18):
            size += len(piece)
            await asyncio.sleep(0.01)
        took = asyncio.get_running_loop().time() - start
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    assert took > 0.3, "or the deadline was never there"
    assert size > 8 << 20


async def test_closing_lets_what_runs_finish_and_refuses_the_rest(tmp_path: Path) -> None:
    release, running = asyncio.Event(), asyncio.Event()

    async def wait(_: Request) -> Response:
        running.set()
        await release.wait()
        return Response(200, b"done")

    async with served(wait) as (listener, port):
        await listener.listen_unix(tmp_path / "s.sock", mode=0o600)
        assert (tmp_path / "s.sock").stat().st_mode & 0o777 == 0o600
        asked = asyncio.create_task(talk(port, get("/")))
        await running.wait()
        closing = asyncio.create_task(listener.close(5))
        await asyncio.sleep(0)
        release.set()
        assert (await asked).endswith(b"done")
        await closing
        assert not (tmp_path / "s.sock").exists()


async def test_a_request_that_hangs_does_not_outlive_the_drain_time() -> None:
    async def hang(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with served(hang) as (listener, port):
        asked = asyncio.create_task(talk(port, get("/")))
        await until(lambda: listener.connections)
        await listener.close(0.05)
        assert await asyncio.gather(asked, return_exceptions=True)
        async with asyncio.timeout(5):
            await until(lambda: not listener.connections)


async def test_what_is_no_request_or_too_much_of_one_is_counted() -> None:
    counted: list[tuple[str, str]] = []

    def count(protocol: str, code: str) -> None:
        counted.append((protocol, code))

    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    async with served(refused=count, max_body_bytes=10, max_header_bytes=500, body_timeout_s=0.05) as (_, port):
        for sent in (b"nonsense\r\n\r\n", head + b"Content-Length: 11\r\n\r\n", head + b"a: %s\r\n\r\n" % (b"b" * 600)):
            await talk(port, sent)
        await talk(port, head + b"Content-Length: 5\r\n\r\nx")
        await talk(port, get("/", "Connection: close"))
    assert counted == [("http", each) for each in ("invalid_input", "too_large", "too_large", "too_slow")]


async def test_answers_that_nobody_takes_have_a_bound_together() -> None:
    async def large(_: Request) -> Response:
        return Response(200, bytes(40 << 20))

    async with served(large, max_inflight_body_bytes=100 << 20, send_timeout_s=60) as (listener, port):
        writers = []
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.write(get("/"))
            writers.append(writer)
        await until(lambda: listener.connections == 2)
        assert not listener.claim(40 << 20), "two of them are waiting"
        for writer in writers:
            writer.transport.abort()
        await until(lambda: listener.connections == 0)
        assert listener.claim(100 << 20), "and all was given back"
