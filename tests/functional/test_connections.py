"""Connections as they come: slow, idle by the thousand, cut off, pipelined, smuggled."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import tflite_models
from tests.functional.raw import Wire, ask, chunked, connect, request
from tests.functional.server import Running, serving
from tests.functional.zoo import HALF, HALVED, half
from tests.waiting import until_blocking

PREDICT = "/v1/models/half:predict"
CHUNKED = ["Transfer-Encoding: chunked"]
SHORT = (
    *("--set", "http.header_timeout_s=1", "--set", "http.body_timeout_s=1", "--set", "http.keepalive_s=1.5"),
    *("--set", "http.max_body_bytes=1000000"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("connections")
    with serving(directory, half(directory), *SHORT) as running:
        yield running


@pytest.fixture
def server(shared: Running) -> Iterator[Running]:
    """A server with short deadlines, which after the test serves, and has logged no bug."""
    yield shared
    assert ask(shared.port, "POST", PREDICT, HALF).json() == HALVED
    assert "Traceback" not in shared.log.read_text()


def everything(server: Running, sent: bytes) -> bytes:
    """What the server says to these bytes until it closes."""
    with Wire(server.port) as wire:
        wire.send(sent)
        return wire.rest()


def post(*headers: str, body: bytes = b"") -> bytes:
    """A request whose headers are what they are said to be, whatever its body is."""
    return request("POST", PREDICT, None, headers) + body


# -- slow clients


def drip(wire: Wire, data: bytes, step_s: float = 0.2) -> None:
    """A byte at a time, until all is sent or the server has hung up."""
    with contextlib.suppress(OSError):
        for at in range(len(data)):
            wire.send(data[at : at + 1])
            time.sleep(step_s)  # what makes the client slow


def test_a_byte_at_a_time_is_hung_up_on_at_the_deadline_in_the_head_and_in_the_body(server: Running) -> None:
    length = f"Content-Length: {len(HALF)}"

    def slowly(quick: bytes, slow: bytes) -> tuple[int, float]:
        with Wire(server.port) as wire:
            wire.send(quick)
            start = time.monotonic()
            drip(wire, slow[:15])
            return wire.answer().status, time.monotonic() - start

    cases = (b"", post(length)), (post(length), HALF), (post(*CHUNKED), chunked(HALF))
    with ThreadPoolExecutor(len(cases)) as pool:
        for status, took in pool.map(slowly, *zip(*cases, strict=True)):
            assert status == 408
            assert took < 4.5, "a byte now and then does not put the deadline off"


def test_slow_clients_hold_up_nobody(server: Running) -> None:
    wires = [Wire(server.port) for _ in range(50)]
    for number, wire in enumerate(wires):
        wire.send(post("Content-Length: 100")[: 20 + number])
    start = time.monotonic()
    for _ in range(20):
        assert ask(server.port, "POST", PREDICT, HALF).json() == HALVED
    assert time.monotonic() - start < 8
    for wire in wires:
        wire.__exit__(None, None, None)


def test_a_client_that_reads_a_large_answer_slowly_gets_it_whole_and_holds_up_nobody(tmp_path: Path) -> None:
    size = 16_000_000
    (tmp_path / "wide.tflite").write_bytes(tflite_models.scaling(1.0, (size // 4,)))
    tensor = {"name": "x", "shape": [size // 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    asked = request(
        "POST", "/v2/models/wide/infer", head + bytes(size), [f"Inference-Header-Content-Length: {len(head)}"]
    )
    with serving(tmp_path, tmp_path / "wide.tflite") as server, contextlib.closing(connect(server.port)) as slow:
        slow.sendall(asked)
        got, took = 0, []
        while got < size:
            got += len(slow.recv(1 << 19))
            start = time.monotonic()
            assert ask(server.port, "GET", "/v2/health/ready").status == 200
            took.append(time.monotonic() - start)
        assert sorted(took)[len(took) // 2] < 1


# -- bodies and their lengths


def test_a_body_shorter_than_its_length_waits_for_the_rest_and_no_longer_than_the_deadline(server: Running) -> None:
    with Wire(server.port) as wire:
        wire.send(post(f"Content-Length: {len(HALF)}", body=HALF[:5]))
        wire.send(HALF[5:])
        assert wire.answer().json() == HALVED
        wire.send(post(f"Content-Length: {len(HALF) + 10}", body=HALF))
        assert wire.answer().status == 408


def test_what_is_longer_than_its_length_is_not_taken_for_a_body(server: Running) -> None:
    got = everything(server, post(f"Content-Length: {len(HALF)}", body=HALF + b"and more"))
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 Bad Request" in got
    assert got.count(b"HTTP/1.1 ") == 2


def test_chunks_are_put_together_and_endless_ones_are_refused(server: Running) -> None:
    with Wire(server.port) as wire:
        assert wire.ask(post(*CHUNKED, body=chunked(*(HALF[at : at + 1] for at in range(len(HALF)))))).json() == HALVED
        assert wire.ask(post(*CHUNKED, body=chunked(HALF).replace(b"\r\n", b";extension=1\r\n", 1))).json() == HALVED
    before = psutil.Process(server.process.pid).memory_info().rss
    with Wire(server.port) as wire:
        wire.send(post(*CHUNKED))
        with contextlib.suppress(OSError):
            for _ in range(1_000):
                wire.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert wire.answer().status == 413
    assert psutil.Process(server.process.pid).memory_info().rss - before < 20 << 20


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(*CHUNKED, body=b"zz\r\n"), 400),
        (post(*CHUNKED, body=b"-1\r\n"), 400),
        (post(*CHUNKED, body=b"f" * 20 + b"\r\n"), 400),
        (post(*CHUNKED, body=b"5\r\n" + HALF + b"\r\n0\r\n\r\n"), 400),
        (post(*CHUNKED, body=b"5;" + b"x" * 300_000), 431),
        (post(*CHUNKED, body=b"0\r\n" + b"x: y\r\n" * 50_000), 431),
        (request("GET", "/" + "x" * 300_000), 431),
        (request("GET", "/", None, ["x: " + "y" * 300_000]), 431),
        (request("GET", "/", None, [f"x-{number}: y" for number in range(20_000)]), 431),
    ],
    ids=["no number", "a negative one", "over 64 bits", "shorter than its data", "an endless extension",
         "endless trailers", "an endless target", "an endless header", "headers without end"],
)  # fmt: skip
def test_chunks_and_heads_that_lie_or_do_not_end_are_refused(server: Running, sent: bytes, status: int) -> None:
    with Wire(server.port) as wire:
        with contextlib.suppress(OSError):
            wire.send(sent)
        with contextlib.suppress(ConnectionResetError):  # it stopped reading, and what was unread may reset
            answer = wire.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")


# -- smuggling: one server must not see two requests where another sees one


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: " + "9" * 30],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: identity", "Content-Length: 5"],
        ["X: a\r\n Transfer-Encoding: chunked"],
        ["X: a\rTransfer-Encoding: chunked"],
        ["X: a\nTransfer-Encoding: chunked"],
        ["X: a\0b"],
        ["Host: evil.example"],
    ],
    ids=str,
)
def test_a_request_that_can_be_read_in_two_ways_is_read_in_none(server: Running, headers: list[str]) -> None:
    smuggled = request("GET", "/v2/models")
    got = everything(server, post(*headers, body=b"0\r\n\r\n" + smuggled))
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert got.count(b"HTTP/1.1 ") == 1, "nothing behind it is a request"


def test_a_request_without_a_host_is_refused_and_http_1_0_needs_none(server: Running) -> None:
    assert everything(server, b"GET /v2/health/live HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    got = everything(server, b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close\r\n" in got
    with Wire(server.port) as wire:
        for _ in range(3):
            kept = wire.ask(b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert kept.headers["connection"] == "keep-alive"


# -- what clients may do


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    numbers = range(200)
    bodies = [b'{"instances": [%d]}' % number for number in numbers]
    with Wire(server.port) as wire:
        wire.send(b"".join(request("POST", PREDICT, body) for body in bodies))
        assert [wire.answer().json()["predictions"] for _ in numbers] == [[number / 2] for number in numbers]


def test_a_client_that_expects_to_be_told_is_told_to_go_on(server: Running) -> None:
    with Wire(server.port) as wire:
        wire.send(post("Expect: 100-continue", f"Content-Length: {len(HALF)}"))
        assert wire.answer().status == 100
        assert wire.ask(HALF).json() == HALVED


def test_a_client_that_offers_http_2_is_answered_in_http_1(server: Running) -> None:
    offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    with Wire(server.port) as wire:
        assert wire.ask(request("POST", PREDICT, HALF, offer)).json() == HALVED
        assert wire.ask(request("GET", "/v2/health/live", None, offer)).status == 200
    assert everything(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_head_is_get_without_the_body(server: Running) -> None:
    with Wire(server.port) as wire:
        full = wire.ask(request("GET", "/"))
        assert full.status == 200
        head = wire.ask(request("HEAD", "/"), method="HEAD")
        assert (head.status, head.headers["content-length"]) == (200, str(len(full.body)))
        assert wire.ask(request("GET", "/v2/health/live")).status == 200


def test_other_origins_are_let_in_by_the_switch_only(server: Running, tmp_path: Path) -> None:
    origin = ["Origin: http://elsewhere.example"]
    assert ask(server.port, "POST", PREDICT, HALF, origin).status == 403
    preflight = ask(server.port, "OPTIONS", PREDICT, headers=origin)
    assert "access-control-allow-origin" not in preflight.headers
    with serving(tmp_path, half(tmp_path), "--set", "http.cors=true") as open_server:
        preflight = ask(open_server.port, "OPTIONS", PREDICT, headers=origin)
        assert (preflight.status, preflight.body) == (200, b"")
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-methods"] == "POST, GET"
        assert ask(open_server.port, "OPTIONS", PREDICT).status == 400
        for body in (HALF, b"{"):
            answer = ask(open_server.port, "POST", PREDICT, body, origin)
            assert answer.headers["access-control-allow-origin"] == "*"


def test_clients_that_go_away_at_any_byte_harm_nobody(server: Running) -> None:
    whole = request("POST", PREDICT, HALF)
    fds = psutil.Process(server.process.pid).num_fds()
    for at in range(1, len(whole) + 1):
        with Wire(server.port) as wire:
            wire.send(whole[:at])
    assert ask(server.port, "POST", PREDICT, HALF).json() == HALVED, "and behind all of these in the queue"
    until_blocking(lambda: psutil.Process(server.process.pid).num_fds() <= fds)


# -- ten thousand of them

IDLE = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process, and the server that it starts, may open IDLE files and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < need:
        pytest.skip(f"RLIMIT_NOFILE: want a hard limit of {need} to hold {IDLE} connections, got {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_are_held_in_little_memory_and_closed_by_their_deadline(
    tmp_path: Path, many_files: None
) -> None:
    idle_s = 5.0
    bounds = ("--set", f"http.keepalive_s={idle_s}", "--set", f"http.header_timeout_s={idle_s}")
    with serving(tmp_path, half(tmp_path), *bounds) as server:
        process = psutil.Process(server.process.pid)
        ask(server.port, "POST", PREDICT, HALF)
        fds, before = process.num_fds(), process.memory_info().rss
        idle = [connect(server.port) for _ in range(IDLE)]
        try:
            until_blocking(lambda: process.num_fds() >= IDLE)
            each = (process.memory_info().rss - before) / IDLE
            assert each < 8_192, f"{each:.0f} bytes for a connection"
            took = []
            for _ in range(20):
                start = time.monotonic()
                assert ask(server.port, "POST", PREDICT, HALF).json() == HALVED
                took.append(time.monotonic() - start)
            assert sorted(took)[10] < 0.5
            until_blocking(lambda: process.num_fds() <= fds, within_s=idle_s + 10)
        finally:
            for each_socket in idle:
                each_socket.close()
        assert ask(server.port, "POST", PREDICT, HALF).json() == HALVED


def test_connections_beyond_the_bound_are_told_so_and_those_within_it_go_on(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path), "--set", "http.max_connections=20") as server:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(20)]
            for wire in wires:
                assert wire.ask(request("POST", PREDICT, HALF)).json() == HALVED
            with Wire(server.port) as late:
                refused = late.answer()
                assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            for wire in wires:
                assert wire.ask(request("POST", PREDICT, HALF)).json() == HALVED
        until_blocking(lambda: served_again(server))


def served_again(server: Running) -> bool:
    with contextlib.suppress(OSError):
        return ask(server.port, "POST", PREDICT, HALF).status == 200
    return False


def test_a_server_that_has_no_files_left_serves_on_and_accepts_again_later(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path)) as server:
        process = psutil.Process(server.process.pid)
        room = process.num_fds() + 30
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (room, room))
        with Wire(server.port) as old:
            old.ask(request("POST", PREDICT, HALF))
            idle = [connect(server.port) for _ in range(100)]
            until_blocking(lambda: process.num_fds() >= room - 1)
            assert old.ask(request("POST", PREDICT, HALF)).json() == HALVED
            for each in idle:
                each.close()
        until_blocking(lambda: served_again(server))
        assert os.path.getsize(server.log) < 1 << 20, "the log is not flooded"


def test_batches_of_clients_at_once_are_all_answered(server: Running) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: ask(server.port, "POST", PREDICT, HALF), range(500)))
    assert all(answer.json() == HALVED for answer in answers)
