"""What no client should send over gRPC: told with the right code, bounded, and no trouble to anybody else."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from edge.wire.proto.messages import message
from tests.functional.grpc_client import (
    ROWS,
    WITHIN_S,
    call,
    failure,
    outputs,
    predict_request,
    raw,
    serving_grpc,
    tensor,
)
from tests.functional.server import Running
from tests.functional.zoo import looping, zoo
from tests.waiting import until_blocking

PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
MAX_BYTES = 1 << 20
FOR_LONG = np.array([-3e6], np.float32)
"""Half a second of `loop`."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, int]]:
    path = tmp_path_factory.mktemp("hostile")
    models = zoo(path / "models")
    loop = models / "loop" / "1"
    loop.mkdir(parents=True)
    looping(path).rename(loop / "model.tflite")
    bounds = ("--set", f"grpc.max_message_bytes={MAX_BYTES}", "--set", "grpc.max_streams=4")
    with serving_grpc(path, models, *bounds, "--set", "grpc.message_timeout_s=2") as made:
        yield made


@pytest.fixture
def channel(both: tuple[Running, int]) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{both[1]}") as made:
        yield made
        assert outputs(call(made, "Predict", predict_request("half", x=ROWS)))["y"].tolist() == (ROWS / 2).tolist()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (tensor(1, (4,), tensor_content=b"123"), "want 16 bytes of tensor_content for float32 [4], got 3"),
        (tensor(1, (4,), tensor_content=b"1" * 17), "want 16 bytes of tensor_content for float32 [4], got 17"),
        (tensor(1, (2**40,), float_val=[1.0]), "want at most 1048576 bytes, got float32 [1099511627776]"),
        (tensor(1, (2**62, 2**62), float_val=[1.0]), "want at most"),
        (tensor(1, (0, 2**62), float_val=[1.0]), "want at most"),
        (tensor(1, (-1,)), "want sizes of at least 0, got shape [-1]"),
        (tensor(1, (1,) * 40), "want at most 32 dimensions, got 40"),
        (tensor(99, (1,)), "no tensor here has the type number 99"),
        (tensor(8, (1,)), "no tensor here has the type number 8"),
        (tensor(0, ()), "no tensor here has the type number 0"),
        (b"\xff" * 20, "20 bytes are no TensorProto"),
        (tensor(1, (2,))[:-1], "are no TensorProto"),
        (tensor(4, (1,), int_val=[300]), "want uint8, got a value outside 0 to 255"),
        (tensor(7, (2**21,), string_val=[b"a"]), "want at most"),
        (tensor(7, (2,), tensor_content=b"\xff\xff\xff\xff\xff\xff"), "want the lengths of 2 strings"),
    ],
)
def test_a_tensor_that_is_none_is_an_invalid_argument(channel: Any, content: bytes, text: str) -> None:
    code, said = failure(channel, "Predict", predict_request("half", x=content))
    assert code == "INVALID_ARGUMENT"
    assert said.startswith("tensor parsing error: x: ")
    assert text in said


def test_a_few_bytes_may_stand_for_no_more_than_a_message_may_hold(channel: Any) -> None:
    request = predict_request("half", x=tensor(1, (MAX_BYTES // 4,), float_val=[2.0]))
    got = outputs(call(channel, "Predict", request))["y"]
    assert got.shape == (MAX_BYTES // 4,)
    assert (got == 1.0).all()
    request = predict_request("half", x=tensor(1, (MAX_BYTES // 4 + 1,), float_val=[2.0]))
    assert failure(channel, "Predict", request)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "change",
    [
        {"datatype": "FP99"},
        {"shape": [2**62, 4]},
        {"shape": [-4]},
        {"shape": [1] * 40},
        {"shape": [5]},
        {"raw": [b"123"]},
        {"raw": [b"1" * 16, b"2"]},
        {"datatype": "FP16"},
        {"parameters": True},
        {"both": True},
    ],
    ids=str,
)
def test_an_inference_that_is_none_is_an_invalid_argument(channel: Any, change: dict[str, Any]) -> None:
    request = message("inference.ModelInferRequest")(model_name="half")
    given = request.inputs.add(name="x", datatype=change.get("datatype", "FP32"), shape=change.get("shape", [4]))
    request.raw_input_contents.extend(change.get("raw", [ROWS.tobytes()]))
    if "parameters" in change:
        request.parameters["timeout"].string_param = "soon"
    if "both" in change:
        given.contents.fp32_contents.append(1.0)
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, INFER)(request.SerializeToString(), timeout=WITHIN_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_garbage_is_an_invalid_argument_or_a_name_that_is_not_there(channel: Any) -> None:
    dice, codes = random.Random(7), set[str]()
    sound = predict_request("half", x=ROWS).SerializeToString()
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        for path in (PREDICT, INFER):
            try:
                raw(channel, path)(bytes(data[: dice.randint(0, len(data))]), timeout=WITHIN_S)
            except grpc.RpcError as error:
                codes.add(error.code().name)
    assert codes == {"INVALID_ARGUMENT", "NOT_FOUND"}


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, "/tensorflow.serving.PredictionService/Steal")(b"", timeout=WITHIN_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_too_large_is_told_so(channel: Any) -> None:
    code, _ = failure(channel, "Predict", predict_request("half", x=np.zeros(MAX_BYTES // 4 + 1, np.float32)))
    assert code == "RESOURCE_EXHAUSTED"


def test_what_inflates_beyond_the_bound_is_told_so_and_costs_no_memory(both: tuple[Running, int]) -> None:
    before = psutil.Process(both[0].process.pid).memory_info().rss
    body = predict_request("half", x=np.zeros(16 << 20, np.float32)).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{both[1]}") as channel, pytest.raises(grpc.RpcError) as caught:
        raw(channel, PREDICT)(body, timeout=WITHIN_S, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert psutil.Process(both[0].process.pid).memory_info().rss - before < 40 << 20


def test_messages_that_are_refused_are_let_go_of_at_once(both: tuple[Running, int], channel: Any) -> None:
    process = psutil.Process(both[0].process.pid)
    wrong = tensor(1, (7,), tensor_content=bytes(MAX_BYTES - 100))
    failure(channel, "Predict", predict_request("half", x=wrong))
    before = process.memory_info().rss
    most = 0
    for _ in range(60):
        assert failure(channel, "Predict", predict_request("half", x=wrong))[0] == "INVALID_ARGUMENT"
        most = max(most, process.memory_info().rss - before)
    assert most < 15 * MAX_BYTES


def test_a_deadline_that_is_over_ends_a_call_and_the_model_serves_on(channel: Any) -> None:
    start = time.monotonic()
    code, _ = failure(channel, "Predict", predict_request("loop", x=FOR_LONG * 4), timeout=0.1)
    assert code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < 2.0
    assert failure(channel, "Predict", predict_request("half", x=ROWS), timeout=-1.0)[0] == "DEADLINE_EXCEEDED"


def test_a_call_that_is_given_up_is_cancelled_on_the_server(both: tuple[Running, int], channel: Any) -> None:
    stub = raw(channel, PREDICT)
    data = predict_request("loop", x=FOR_LONG).SerializeToString()
    for _ in range(5):
        under_way = stub.future(data, timeout=WITHIN_S)
        time.sleep(0.05)  # so that some are queued and one runs; whichever it is, it is cancelled
        assert under_way.cancel()
    cancelled = 'edge_requests_total{code="cancelled",model="loop",protocol="grpc",version="1"}'
    until_blocking(lambda: cancelled in both[0].ask("/metrics")[1].decode(), lambda: "no cancelled call", within_s=60.0)


def test_a_call_whose_message_never_comes_is_ended(channel: Any) -> None:
    held = threading.Event()

    def nothing() -> Iterator[bytes]:
        held.wait(WITHIN_S)
        yield from ()

    calls = [channel.stream_unary(PREDICT).future(nothing(), timeout=WITHIN_S) for _ in range(20)]
    for each in calls:
        assert each.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "grpc.message_timeout_s" in each.details()
    held.set()


def test_a_call_without_a_message_is_an_invalid_argument(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(PREDICT)(iter(()), timeout=WITHIN_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_streams_beyond_the_bound_are_refused_and_told_when_to_come_back(channel: Any) -> None:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
    open_ones = [watch(b"", timeout=WITHIN_S) for _ in range(4)]
    firsts = [next(each) for each in open_ones]
    assert firsts == [b"\x08\x01"] * 4
    with pytest.raises(grpc.RpcError) as caught:
        next(watch(b"", timeout=WITHIN_S))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ("grpc-retry-pushback-ms", "1000") in [tuple(pair) for pair in caught.value.trailing_metadata()]
    for each in open_ones:
        each.cancel()
    until_blocking(lambda: _opens(watch), lambda: "no place came free", within_s=60.0)


def _opens(watch: Any) -> bool:
    stream = watch(b"", timeout=WITHIN_S)
    try:
        return bool(next(stream))
    except grpc.RpcError:
        return False
    finally:
        stream.cancel()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING = struct.pack(">I", 8)[1:] + b"\x06\x00" + bytes(4) + b"01234567"
SETTINGS = bytes(3) + b"\x04\x00" + bytes(4)


def test_ten_thousand_pings_end_their_connection_and_cost_nobody_an_answer(
    both: tuple[Running, int], channel: Any
) -> None:
    wrong: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answer = call(channel, "Predict", predict_request("half", x=ROWS))
                if not np.array_equal(outputs(answer)["y"], ROWS / 2):
                    wrong.append("another answer")
            except grpc.RpcError as error:
                wrong.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with (
            socket.create_connection(("127.0.0.1", both[1]), timeout=WITHIN_S) as wire,
            contextlib.suppress(ConnectionResetError, BrokenPipeError),
        ):
            wire.sendall(PREFACE + SETTINGS)
            for _ in range(100):
                wire.sendall(PING * 100)
            while wire.recv(1 << 16):  # until the server hangs up; it would be a timeout if it did not
                pass
    finally:
        done.set()
        asking.join(WITHIN_S)
    assert wrong == []


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02", PREFACE + b"\xff" * 4000, b""]
)
def test_what_is_no_http_2_is_hung_up_on(both: tuple[Running, int], channel: Any, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", both[1]), timeout=WITHIN_S) as wire:
        wire.sendall(data)
        wire.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while wire.recv(1 << 16):
                pass


def test_the_log_has_no_traceback_after_all_that(both: tuple[Running, int]) -> None:
    log = both[0].log.read_text()
    assert "Traceback" not in log
    assert "internal error" not in log
