"""Compressed and large bodies: what they stand for, and what they cost."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.functional.raw import Answer, Wire, ask, request
from tests.functional.server import Running, serving
from tests.functional.zoo import HALF, HALVED, half

V1, V2 = "/v1/models/half:predict", "/v2/models/half/infer"
INFER = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}).encode()
MIB = 1 << 20
GZIP, DEFLATE = ["Content-Encoding: gzip"], ["Content-Encoding: deflate"]
EMPTY = "JSON Parse error: The document is empty"  # what TensorFlow Serving makes of a body that it cannot read


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("bodies")
    with serving(directory, half(directory)) as running:
        yield running


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encode", "headers"),
    [
        (gzip.compress, GZIP),
        (gzip.compress, ["Content-Encoding: x-gzip"]),
        (zlib.compress, DEFLATE),
        (raw_deflate, DEFLATE),
        (lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:]), GZIP),
        (lambda body: gzip.compress(body) + b"garbage behind it", GZIP),
        (bytes, ["Content-Encoding: identity"]),
    ],
    ids=["gzip", "x-gzip", "deflate", "deflate without zlib's wrapping", "two members", "a tail", "identity"],
)
def test_a_compressed_body_is_what_it_stands_for(server: Running, encode: object, headers: list[str]) -> None:
    assert callable(encode)
    assert ask(server.port, "POST", V1, encode(HALF), headers).json() == HALVED
    assert ask(server.port, "POST", V2, encode(INFER), headers).json()["outputs"][0]["data"] == [0.5]


@pytest.mark.parametrize(
    "body",
    [b"", HALF, gzip.compress(HALF)[:12], gzip.compress(HALF)[:-4], gzip.compress(HALF)[:-8] + b"\0" * 8],
    ids=["nothing", "plain", "cut in the head", "cut in the tail", "another checksum"],
)
def test_a_body_that_is_not_in_its_encoding_is_refused(server: Running, body: bytes) -> None:
    answer = ask(server.port, "POST", V1, body, GZIP)
    assert (answer.status, answer.error) == (400, EMPTY)
    answer = ask(server.port, "POST", V2, body, GZIP)
    assert answer.status == 400
    assert "want a" in answer.error


def rss(server: Running) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


class Peak(threading.Thread):
    """The most memory that the server held while the block ran, in bytes beyond what it held before."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self.server, self.before, self.most = server, rss(server), 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.005):
            self.most = max(self.most, rss(self.server) - self.before)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


@pytest.mark.parametrize(
    ("bomb", "headers", "status"),
    [
        (gzip.compress(bytes(100_000_000)), GZIP, 413),
        (zlib.compress(bytes(100_000_000)), DEFLATE, 413),
        (gzip.compress(gzip.compress(bytes(100_000_000))), ["Content-Encoding: gzip, gzip"], 400),
        (gzip.compress(bytes(2_000_000)) * 50, GZIP, 413),
        (gzip.compress(b"") * 100_000, GZIP, 413),
    ],
    ids=["gzip", "deflate", "nested", "in members", "of empty members"],
)
def test_a_bomb_costs_a_bounded_time_and_memory(server: Running, bomb: bytes, headers: list[str], status: int) -> None:
    assert len(bomb) < 2_100_000
    with Peak(server) as peak:
        for target in (V1, V2):
            assert ask(server.port, "POST", target, bomb, headers).status == status
    assert peak.most < 200 * MIB, "64 MiB is the bound of one body, and it is put together from pieces"
    assert ask(server.port, "POST", V1, HALF).json() == HALVED


def test_many_bombs_at_once_are_bounded_together_and_hold_up_nobody(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * (30 * MIB) + HALF)
    bounds = ("--set", f"http.max_body_bytes={32 * MIB}", "--set", f"server.max_inflight_body_bytes={64 * MIB}")
    with serving(tmp_path, half(tmp_path), *bounds) as server, ThreadPoolExecutor(24) as pool:

        def throw(_: int) -> Answer:
            with Wire(server.port, timeout_s=60) as wire:
                return wire.ask(request("POST", V1, bomb, GZIP))

        with Peak(server) as peak:
            thrown = [pool.submit(throw, number) for number in range(24)]
            assert ask(server.port, "POST", V1, HALF).json() == HALVED
            answers = [each.result() for each in thrown]
        statuses = Counter(answer.status for answer in answers)
        assert statuses[200], "one at a time, it is a body like any other"
        assert statuses.keys() == {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
        assert peak.most < 600 * MIB, f"{peak.most / MIB:.0f} MiB: 24 bodies of 30 MiB are not to be held at once"
        assert ask(server.port, "POST", V1, bomb, GZIP).json() == HALVED, "what was claimed has been given back"


def test_a_body_of_100_mb_is_refused_without_being_read(server: Running) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n" % V1.encode()
    with Peak(server) as peak:
        for more in (b"\r\n", b"Expect: 100-continue\r\n\r\n"):
            with Wire(server.port) as wire:
                answer = wire.ask(head.replace(b"x\r", b"127.0.0.1\r") + more)
                assert (answer.status, answer.headers["connection"]) == (413, "close")
                assert "max_body_bytes" in answer.error
        with Wire(server.port) as wire:
            wire.send(head.replace(b"x\r", b"127.0.0.1\r") + b"\r\n")
            for _ in range(100):
                try:
                    wire.send(bytes(MIB))
                except OSError:
                    break  # it stopped listening
            else:
                assert wire.answer().status == 413
    assert peak.most < 20 * MIB
