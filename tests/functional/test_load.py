"""More than the server can do: what is refused, what is late, and what is dropped."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.functional.raw import Answer, Wire, ask, request
from tests.functional.server import Running, serving
from tests.functional.zoo import FOR_EVER, LOOP, looping
from tests.waiting import until_blocking

QUICK = b'{"inputs": [0.0]}'
ANSWERED = {"outputs": [0.0]}
MAX_QUEUE = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """One interpreter, and a queue of MAX_QUEUE before it."""
    bounds = ("--set", "models.loop.instances=1", "--set", f"models.loop.max_queue={MAX_QUEUE}")
    with serving(tmp_path, looping(tmp_path), *bounds, "--set", "server.drain_s=0.2") as running:
        yield running


def seconds(wanted: float) -> bytes:
    """A request whose run takes about as long; at most 2.5, for the numbers end there."""
    return b'{"inputs": [-%d]}' % min(16_000_000, int(wanted * 6_000_000))


def metric(server: Running, name: str, **labels: str) -> float:
    """The sum over all samples of that name with those labels."""
    text = ask(server.port, "GET", "/metrics").body.decode()
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def depth(server: Running) -> float:
    return metric(server, "edge_queue_depth", model="loop")


@contextmanager
def waiting(server: Running, count: int, body: bytes) -> Iterator[list[Wire]]:
    """A run that hangs, and that many requests that wait behind it."""
    with ExitStack() as stack:
        busy = stack.enter_context(Wire(server.port))
        busy.send(request("POST", LOOP, FOR_EVER))
        until_blocking(lambda: in_flight(server))
        wires = [stack.enter_context(Wire(server.port)) for _ in range(count)]
        for wire in wires:
            wire.send(request("POST", LOOP, body))
        until_blocking(lambda: depth(server) == count)
        yield [busy, *wires]


def in_flight(server: Running) -> bool:
    """Whether a run keeps the one interpreter, so that a request that may wait 50 ms has its time run out."""
    return ask(server.port, "POST", LOOP, QUICK, ["X-Request-Timeout-Ms: 50"]).status == 504


def test_a_full_queue_is_answered_at_once_with_when_to_come_back(server: Running) -> None:
    with waiting(server, MAX_QUEUE, QUICK):
        start = time.monotonic()
        refused = [ask(server.port, "POST", LOOP, QUICK) for _ in range(10)]
        assert time.monotonic() - start < 5, "the run in front of them never ends"
        for answer in refused:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert f"loop@1: {MAX_QUEUE} requests wait already (max_queue)" in answer.error
        infer = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [0]}]}'
        v2 = ask(server.port, "POST", "/v2/models/loop/infer", infer)
        assert (v2.status, v2.headers["retry-after"]) == (503, "1")
        assert metric(server, "edge_requests_total", model="loop", code="overloaded") == 11


def test_a_deadline_that_passes_in_the_queue_or_in_the_run_is_a_504_in_time(server: Running) -> None:
    soon = ["X-Request-Timeout-Ms: 200"]
    for where, others in (("while the model ran", 0), ("in the queue", 1)):
        with ExitStack() as stack:
            for _ in range(others):
                stack.enter_context(Wire(server.port)).send(request("POST", LOOP, seconds(2)))
                until_blocking(lambda: in_flight(server))
            start = time.monotonic()
            late = ask(server.port, "POST", LOOP, seconds(2), soon)
            took = time.monotonic() - start
        assert (late.status, late.error) == (504, f"the request's time was up {where}")
        assert 0.15 < took < 1.5, "before the run could have ended"
        until_blocking(lambda: not in_flight(server))
    assert metric(server, "edge_requests_total", code="deadline") >= 2
    assert ask(server.port, "POST", LOOP, QUICK).json() == ANSWERED


def test_the_page_counts_what_was_late_or_refused_as_failed(server: Running) -> None:
    def failed() -> int:
        (model,) = ask(server.port, "GET", "/stats").json()["models"]
        return int(model["versions"][0]["failures"])

    before = failed()
    assert ask(server.port, "POST", LOOP, seconds(0.5), ["X-Request-Timeout-Ms: 10"]).status == 504
    assert ask(server.port, "POST", LOOP, b"{").status == 400
    assert failed() - before == 1, "and not what the client did wrong"


def test_what_a_client_that_has_gone_asked_for_is_dropped_and_counted(server: Running) -> None:
    blocked = Wire(server.port)
    blocked.send(request("POST", LOOP, seconds(2)))
    until_blocking(lambda: in_flight(server))
    gone = [Wire(server.port) for _ in range(MAX_QUEUE)]
    for wire in gone:
        wire.send(request("POST", LOOP, seconds(2.5)))
    until_blocking(lambda: depth(server) == MAX_QUEUE)
    for wire in gone:
        wire.__exit__(None, None, None)
    until_blocking(lambda: metric(server, "edge_requests_total", model="loop", code="cancelled") == MAX_QUEUE)
    assert blocked.answer().json() == ANSWERED
    blocked.__exit__(None, None, None)
    start = time.monotonic()
    assert ask(server.port, "POST", LOOP, QUICK).json() == ANSWERED
    assert time.monotonic() - start < 8, "four runs of 2.5 s were not made for nobody"


def test_requests_in_flight_are_bounded_over_all_models_and_doors(tmp_path: Path) -> None:
    uds = tmp_path / "http.sock"
    bounds = ("--set", "server.max_inflight=3", "--set", "server.drain_s=0.2", "--set", "models.loop.instances=1")
    with serving(tmp_path, looping(tmp_path), *bounds, "--uds", uds) as server, ExitStack() as stack:
        wires = [stack.enter_context(Wire(place)) for place in (server.port, uds, uds)]
        for wire in wires:
            wire.send(request("POST", LOOP, FOR_EVER))
        until_blocking(lambda: depth(server) == 2)
        refused = ask(server.port, "POST", LOOP, QUICK)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "3 requests are in flight already (max_inflight)" in refused.error
        assert ask(server.port, "GET", "/v2/health/live").status == 200
        assert ask(server.port, "GET", "/v1/models/loop").status == 200, "to look at the server is not bounded by it"
        for wire in wires:
            wire.__exit__(None, None, None)
        until_blocking(lambda: ask(server.port, "GET", "/metrics").status == 200)


def test_under_four_times_its_load_every_request_is_answered_rightly_or_refused(server: Running) -> None:
    def one(_: int) -> Answer:
        return ask(server.port, "POST", LOOP, seconds(0.005))

    with ThreadPoolExecutor(4 * (MAX_QUEUE + 1)) as pool:
        answers = list(pool.map(one, range(400)))
    counts = Counter(answer.status for answer in answers)
    assert counts.keys() == {200, 503}
    assert all(answer.json() == ANSWERED for answer in answers if answer.status == 200)
    assert metric(server, "edge_requests_total", model="loop", code="ok") == counts[200]
    assert metric(server, "edge_requests_total", model="loop", code="overloaded") == counts[503]
    assert depth(server) == 0


def test_a_run_that_hangs_fails_its_request_and_the_status_says_so(tmp_path: Path) -> None:
    bounds = ("--set", "models.loop.instances=1", "--set", "models.loop.max_run_s=0.5", "--set", "server.drain_s=0.2")
    with serving(tmp_path, looping(tmp_path), *bounds) as server:
        answer = ask(server.port, "POST", LOOP, FOR_EVER)
        assert (answer.status, answer.error) == (500, "Failed to invoke TfLite interpreter")
        assert ask(server.port, "POST", LOOP, QUICK).status == 503
        (version,) = ask(server.admin, "GET", "/v1/status").json()["models"]["loop"]["versions"].values()
        assert "cpu: a run has taken longer than 0.5 s (max_run_s)" in version["reason"]
        assert ask(server.port, "GET", "/v2/health/live").status == 200
