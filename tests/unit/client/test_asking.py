"""What both clients do on the wire: connections, times, bounds, what is tried again, and what becomes of bad servers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge.client import (
    ONCE,
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    NotFound,
    NotReady,
    Overloaded,
    Retries,
    ServerFailed,
    TooLarge,
    Unauthenticated,
    Unreachable,
    awaited,
)
from tests.unit.client.both import Maker, answer, both, scripted

QUICK = Retries(attempts=3, backoff_s=0.001)
METADATA = b'{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],"outputs":[]}'
ONE = b'{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[0.5]}]}'
RENAMED = METADATA.replace(b'"x"', b'"pixels"')


@both
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (408, DeadlineExceeded),
        (413, TooLarge),
        (415, Invalid),
        (418, Invalid),
        (431, TooLarge),
        (500, ServerFailed),
        (501, Invalid),
        (503, NotReady),
        (504, DeadlineExceeded),
        (599, ServerFailed),
    ],
)
def test_an_error_has_its_class_and_the_servers_words(made: Maker, status: int, kind: type[ClientError]) -> None:
    with scripted(answer(status, b'{"error": "want this, \\u001b[31mgot that"}')) as script, made(script.url) as client:
        with pytest.raises(kind) as caught:
            client.models()
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.message) == (status, "want this, �[31mgot that")
        assert len(script.asked) == 1


@both
def test_a_good_connection_is_used_again_also_after_an_error(made: Maker) -> None:
    with scripted(answer(200, b"[]"), answer(404), answer(200, b"[]")) as script, made(script.url) as client:
        assert client.models() == []
        with pytest.raises(NotFound):
            client.models()
        assert client.models() == []
        assert script.connections == 1


@both
def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    made: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "LOOK_AFTER_S", 0.0)
    closed = threading.Event()

    def then_close(connection: socket.socket) -> None:
        connection.sendall(answer(200, b"[]"))
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with scripted(then_close, answer(200, b"[]")) as script, made(script.url, retries=ONCE) as client:
        client.models()
        assert closed.wait(5)
        assert client.models() == []
        assert script.connections == 2


async def test_a_loop_that_had_no_time_to_look_looks_before_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "LOOK_AFTER_S", 0.0)
    closed = threading.Event()

    def then_close(connection: socket.socket) -> None:
        connection.sendall(answer(200, b"[]"))
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with scripted(then_close, answer(200, b"[]")) as script:
        async with AsyncClient(script.url, retries=ONCE) as client:
            await client.models()
            assert closed.wait(5), "held up, as by a long computation"
            assert await client.models() == []


@both
def test_who_refuses_a_connection_is_tried_again_and_then_told(made: Maker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        made(f"http://127.0.0.1:{port}", retries=QUICK) as client,
        pytest.raises(Unreachable, match="refused") as caught,
    ):
        client.ready()
    assert caught.value.unsent


def test_a_server_that_comes_back_while_it_is_tried_again_answers() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    class Returning(Retries):
        def wait_s(self, error: ClientError, attempt: int, left_s: float) -> float | None:
            listener.listen()
            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            return super().wait_s(error, attempt, left_s)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer(200, b""))

    with listener, Client(f"http://127.0.0.1:{listener.getsockname()[1]}", retries=Returning()) as client:
        assert client.ready()
        assert len(threads) == 1
        threads[0].join(5)


@both
def test_a_request_that_may_have_arrived_is_not_sent_again(made: Maker) -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with scripted(reset) as script, made(script.url, retries=QUICK) as client:
        with pytest.raises(Unreachable) as caught:
            client.predict("m", {"x": [1.0]})
        assert not caught.value.unsent
        assert len(script.asked) == 1


@both
def test_a_full_server_is_asked_again_when_it_says_so(made: Maker) -> None:
    full = answer(503, b'{"error": "full"}', "Retry-After: 0.01")
    with scripted(full, full, answer(200, b"[]")) as script, made(script.url) as client:
        assert client.models() == []
        assert len(script.asked) == 3


@both
def test_a_full_server_is_asked_no_oftener_than_allowed_and_not_past_the_deadline(made: Maker) -> None:
    full = answer(503, b'{"error": "full"}', "Retry-After: 0.01")
    with scripted(full) as script, made(script.url, retries=QUICK) as client:
        with pytest.raises(Overloaded, match="full") as caught:
            client.models()
        assert len(script.asked) == 3
        assert caught.value.retry_after_s == 0.01
    with scripted(answer(503, b"{}", "Retry-After: 60")) as script, made(script.url) as client:
        began = time.monotonic()
        with pytest.raises(Overloaded):
            client.models(timeout_s=5)
        assert time.monotonic() - began < 4
        assert len(script.asked) == 1


@both
def test_the_server_is_told_how_long_the_caller_waits(made: Maker) -> None:
    with scripted(answer(200, b"[]")) as script, made(script.url, token="secret") as client:
        client.models(timeout_s=2)
        headers = dict(line.lower().split(b": ", 1) for line in script.asked[0].split(b"\r\n")[1:] if b": " in line)
    assert 1000 < float(headers[b"x-request-timeout-ms"]) <= 2000
    assert headers[b"authorization"] == b"bearer secret"
    assert headers[b"accept-encoding"] == b"identity"
    assert headers[b"host"] == script.url.removeprefix("http://").encode()


@both
@pytest.mark.parametrize("dribbled", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_a_server_that_dribbles_holds_nobody_past_the_deadline(made: Maker, dribbled: bytes) -> None:
    def dribble(connection: socket.socket) -> None:
        connection.sendall(dribbled)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"a" if b"\r\n\r\n" in dribbled else b"a: b\r\n" if dribbled else b"")
                if not dribbled and not connection.recv(1):
                    return
                time.sleep(0.02)

    with scripted(dribble) as script, made(script.url) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.models(timeout_s=0.3)
        assert time.monotonic() - began < 3


@both
def test_no_time_at_all_asks_nothing(made: Maker) -> None:
    with scripted(answer(200, b"[]")) as script, made(script.url) as client:
        with pytest.raises(DeadlineExceeded):
            client.models(timeout_s=0)
        assert script.asked == []


def chunked(piece: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (len(piece), piece)


@both
@pytest.mark.parametrize(
    "said",
    [answer(200, b"x" * 2000), b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", chunked(b"x" * 2000)],
)
def test_an_answer_beyond_its_bound_is_not_read(made: Maker, said: bytes) -> None:
    bound = pytest.raises(TooLarge, match="at most 1000 bytes")
    with scripted(said) as script, made(script.url, max_answer_bytes=1000) as client, bound:
        client.models()


@both
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 abc\r\n\r\n", BadAnswer),
        (answer(200, b"<html>"), BadAnswer),
        (answer(200, b'{"not": "a list"}'), BadAnswer),
        (answer(200, b"[" * 100_000), BadAnswer),
        (answer(200, b"\x1f\x8b", "Content-Encoding: gzip"), BadAnswer),
        (answer(302, b"", "Location: http://127.0.0.1:1/"), BadAnswer),
        (answer(204, b""), ServerFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n[]", BadAnswer),
    ],
    ids=["ssh", "status", "html", "object", "deep", "gzip", "elsewhere", "nothing", "negative", "words"],
)
def test_a_server_that_speaks_otherwise_is_told_from_one_that_fails(
    made: Maker, said: bytes, kind: type[ClientError]
) -> None:
    with scripted(said) as script, made(script.url, retries=QUICK) as client:
        with pytest.raises(kind):
            client.models()
        assert len(script.asked) == 1


@both
@pytest.mark.parametrize("size", ["9", "chunked"])
def test_an_answer_that_breaks_off_is_no_answer(made: Maker, size: str) -> None:
    head = "Transfer-Encoding: chunked" if size == "chunked" else f"Content-Length: {size}"

    def break_off(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{'9' if size == 'chunked' else '[]'}\r\n[".encode())
        connection.shutdown(socket.SHUT_RDWR)

    with scripted(break_off) as script, made(script.url) as client, pytest.raises(Unreachable):
        client.models()


@both
def test_the_name_of_the_only_input_is_asked_for_once_and_again_when_it_has_changed(made: Maker) -> None:
    answers = [
        answer(200, METADATA),
        answer(200, ONE),
        answer(200, ONE),
        answer(400, b'{"error": "unexpected inference input"}'),
        answer(200, RENAMED),
        answer(200, ONE),
        answer(400, b'{"error": "NaN"}'),
        answer(200, RENAMED),
    ]
    with scripted(*answers) as script, made(script.url) as client:
        array = np.zeros(1, np.float32)
        for _ in range(3):
            assert client.predict("m", array).only == [0.5]
        with pytest.raises(Invalid, match="NaN"):
            client.predict("m", array)
        paths = [request.split(b" ")[1].rpartition(b"/")[2] for request in script.asked]
        assert paths == [b"m", b"infer", b"infer", b"infer", b"m", b"infer", b"infer", b"m"]
        assert b'"pixels"' in script.asked[5]


@both
def test_a_models_name_is_a_name_and_no_path(made: Maker) -> None:
    with scripted(answer(404)) as script, made(script.url + "/behind/") as client:
        for name in ("../../admin", "a b\r\nX: y", "ü", ".."):
            with pytest.raises(NotFound):
                client.metadata(name)
        lines = [request.split(b"\r\n")[0] for request in script.asked]
    assert lines == [
        b"GET /behind/v2/models/..%2F..%2Fadmin HTTP/1.1",
        b"GET /behind/v2/models/a%20b%0D%0AX%3A%20y HTTP/1.1",
        b"GET /behind/v2/models/%C3%BC HTTP/1.1",
        b"GET /behind/v2/models/.. HTTP/1.1",
    ]


@both
def test_large_bodies_arrive_whole(made: Maker) -> None:
    array = np.arange(1 << 19, dtype=np.float32)
    head = b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[524288],"parameters":{"binary_data_size":2097152}}]}'
    said = answer(200, head + array.tobytes(), f"Inference-Header-Content-Length: {len(head)}")
    with scripted(said) as script, made(script.url) as client:
        assert (client.predict("m", {"x": array}).only == array).all()
        assert script.asked[0].endswith(array.tobytes())


def test_threads_share_a_client() -> None:
    with scripted(answer(200, ONE)) as script, Client(script.url) as client, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: client.predict("m", {"x": [1.0]}).only[0], range(200)))
        assert done == [0.5] * 200
        assert script.connections <= 8


@both
def test_a_closed_client_says_so(made: Maker) -> None:
    with made("http://127.0.0.1:1") as client:
        client.close()
        with pytest.raises(Unreachable, match="closed"):
            client.ready()


@both
@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "http://user:password@host",
        "http://host:port",
        "http://host/?query",
        "http://host/ü",
        "http://host\r\n",
        "unix:relative",
        "unix:/a\0b",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_at_once(made: Maker, url: str) -> None:
    with pytest.raises(ValueError, match="want"):
        made(url)


@both
@pytest.mark.parametrize("token", ["", "two words", "line\n", "ü"])
def test_a_token_that_is_none_is_refused_and_not_shown(made: Maker, token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: want printable ASCII without blanks$"):
        made("http://localhost", token=token)


@both
def test_a_version_and_a_label_are_too_much(made: Maker) -> None:
    with made("http://127.0.0.1:1") as client:
        with pytest.raises(Invalid, match="got both"):
            client.predict("m", {}, version=1, label="stable")
        with pytest.raises(Invalid, match="JPEG or PNG"):
            client.classify("m", b"GIF89a")
        with pytest.raises(Invalid, match="JSON"):
            client.predict_json("m", [object()])
