"""gRPC while versions and servers come and go, and with many clients: nothing is lost, and nobody waits for nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edge.wire.proto.messages import message
from tests import tflite_models
from tests.functional.grpc_client import (
    ON_LOOPBACK,
    ROWS,
    WITHIN_S,
    call,
    outputs,
    port_of,
    predict_request,
    serving_grpc,
)
from tests.functional.server import Running, serving
from tests.functional.zoo import half, looping
from tests.waiting import until_blocking

DRAIN_S = 10.0
ASK = predict_request("half", x=ROWS)


def test_a_server_without_grpc_imports_nothing_of_it(tmp_path: Path) -> None:
    with serving(tmp_path, half(tmp_path)) as running:
        assert running.ask("/v1/models/half")[0] == 200
        assert "cygrpc" not in Path(f"/proc/{running.process.pid}/maps").read_text()


def test_what_runs_when_the_server_goes_is_answered_and_watchers_are_told(tmp_path: Path) -> None:
    models = tmp_path / "models" / "loop" / "1"
    models.mkdir(parents=True)
    looping(tmp_path).rename(models / "model.tflite")
    with serving(tmp_path, tmp_path / "models", *ON_LOOPBACK) as running:
        port = port_of(running)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(4) as pool:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=WITHIN_S)
            assert next(watch) == b"\x08\x01"
            slow = predict_request("loop", x=np.array([-4e6], np.float32))
            under_way = [pool.submit(call, channel, "Predict", slow) for _ in range(3)]
            _until_running(running)
            running.process.send_signal(signal.SIGTERM)
            assert list(watch) == [b"\x08\x02"]
            for each in under_way:
                assert outputs(each.result(WITHIN_S))["y"].shape == (1,)
        assert running.process.wait(20) == 0


def test_a_stream_that_nobody_uses_keeps_no_server_from_going(tmp_path: Path) -> None:
    done = threading.Event()

    def one_and_then_nothing() -> Iterator[bytes]:
        yield message("inference.ModelInferRequest")(model_name="nope", id="7").SerializeToString()
        done.wait(WITHIN_S)

    with (
        serving_grpc(tmp_path, half(tmp_path)) as (running, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = stream(one_and_then_nothing(), timeout=WITHIN_S)
        first = message("inference.ModelStreamInferResponse").FromString(next(answers))
        assert "unknown model" in first.error_message
        assert first.infer_response.id == "7"
        start = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.process.wait(20) == 0
        assert time.monotonic() - start < DRAIN_S / 2
        done.set()


def _until_running(running: Running) -> None:
    """Until something waits behind what runs."""

    def waits() -> bool:
        text = running.ask("/metrics")[1].decode()
        return any(float(line.split()[-1]) >= 1 for line in text.splitlines() if line.startswith("edge_queue_depth{"))

    until_blocking(waits, lambda: running.ask("/metrics")[1].decode(), within_s=60.0)


def test_a_swap_loses_no_call(tmp_path: Path) -> None:
    models = tmp_path / "models" / "half"
    (models / "1").mkdir(parents=True)
    (models / "1" / "model.tflite").write_bytes(tflite_models.scaling(0.5))
    seen: dict[int, int] = {}
    wrong: list[str] = []
    done = threading.Event()

    def ask(channel: Any) -> None:
        while not done.is_set():
            try:
                answer = call(channel, "Predict", ASK)
            except grpc.RpcError as error:
                wrong.append(str(error))
                continue
            version = answer.model_spec.version.value
            seen[version] = seen.get(version, 0) + 1
            if not np.array_equal(outputs(answer)["y"], ROWS * (0.5 if version == 1 else 0.25)):
                wrong.append(f"another answer of version {version}")

    with (
        serving_grpc(tmp_path, tmp_path / "models") as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        threads = [threading.Thread(target=ask, args=(channel,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "model.tflite").write_bytes(tflite_models.scaling(0.25))
        (tmp_path / "new").rename(models / "2")
        try:
            until_blocking(lambda: seen.get(2, 0) > 20, lambda: str(seen), within_s=90.0)
        finally:
            done.set()
            for thread in threads:
                thread.join(WITHIN_S)
    assert wrong == []
    assert seen[1] > 0


def test_many_clients_at_once_all_get_their_own_answers(tmp_path: Path) -> None:
    answered: list[bool] = []

    def ask(port: int, number: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as own:
            for turn in range(25):
                x = ROWS + number * 100 + turn
                got = outputs(call(own, "Predict", predict_request("half", x=x)))["y"]
                answered.append(np.array_equal(got, x / 2))

    with serving_grpc(tmp_path, half(tmp_path)) as (_, port):
        threads = [threading.Thread(target=ask, args=(port, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answered == [True] * 16 * 25
