"""A client that has the server to itself waits for no thread; two that ask in turns both do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.raw import Wire, request
from tests.functional.server import Running, serving
from tests.functional.zoo import HALF, half, looping
from tests.waiting import until_blocking

NEVER_INLINE = ("--set", "server.inline_run_s=0", "--set", "server.alone_run_s=5")
V1 = "/v1/models/half:predict"
V2 = "/v2/models/half/infer"
V2_HALF = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("alone")
    with serving(directory, half(directory), *NEVER_INLINE) as running:
        yield running


def queued_s(server: Running) -> str:
    """What all requests have waited for a thread."""
    _, metrics = server.ask("/metrics")
    found = re.search(rb'^edge_queue_seconds_sum\{model="half".*\} (\S+)$', metrics, re.MULTILINE)
    return found[1].decode() if found else "0.0"


def waits(server: Running, path: str, body: bytes, *clients: Wire) -> bool:
    """Whether a client that asks, or one of those that ask in turns, waits for a thread."""
    before = queued_s(server)
    for client in clients:
        assert client.ask(request("POST", path, body)).status == 200
    return queued_s(server) != before


@pytest.mark.parametrize(("path", "body"), [(V1, HALF), (V2, V2_HALF)])
def test_a_client_that_is_alone_waits_for_no_thread_until_another_asks(server: Running, path: str, body: bytes) -> None:
    with Wire(server.port) as one, Wire(server.port) as other:
        until_blocking(lambda: not waits(server, path, body, one))
        assert not any(waits(server, path, body, one) for _ in range(5))
        assert all(waits(server, path, body, one, other) for _ in range(5))
        assert waits(server, path, body, one), "the other may be about to ask again"


def test_requests_that_are_sent_on_without_waiting_for_answers_leave_the_loop_to_others(server: Running) -> None:
    with Wire(server.port) as one:
        until_blocking(lambda: not waits(server, V1, HALF, one))
        before = queued_s(server)
        one.send(request("POST", V1, HALF) * 3)
        assert [one.answer().status for _ in range(3)] == [200] * 3
        assert queued_s(server) != before


def test_a_model_that_may_run_for_ever_never_runs_on_the_event_loop(tmp_path: Path) -> None:
    with serving(tmp_path, looping(tmp_path), *NEVER_INLINE) as server:
        assert "on the event loop" not in server.log.read_text()


@pytest.mark.parametrize(("path", "body"), [(V1, HALF), (V2, V2_HALF)])
def test_a_client_that_is_alone_is_held_to_its_time_too(server: Running, path: str, body: bytes) -> None:
    late = request("POST", path, body, ["X-Request-Timeout-Ms: 0.001"])
    with Wire(server.port) as one:
        until_blocking(lambda: not waits(server, path, body, one))
        assert one.ask(late).status == 504
        assert not waits(server, path, body, one)
