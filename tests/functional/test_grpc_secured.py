"""gRPC behind tokens and TLS, on a Unix socket, and while the server goes: who may ask, and what becomes of calls."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.functional.grpc_client import (
    ROWS,
    WITHIN_S,
    call,
    failure,
    outputs,
    predict_request,
    raw,
    serving_grpc,
)
from tests.functional.server import serving
from tests.functional.test_tls import Authority
from tests.functional.zoo import half
from tests.waiting import until_blocking

pytestmark = pytest.mark.slow

ASK = predict_request("half", x=ROWS)
BEARER = (("authorization", "Bearer secret"),)


@pytest.fixture(scope="module")
def authority(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(openssl, tmp_path_factory.mktemp("authority"))


def halved(channel: Any, **more: Any) -> bool:
    return np.array_equal(outputs(call(channel, "Predict", ASK, **more))["y"], ROWS / 2)


def test_a_call_needs_the_token_that_http_asks_for_and_health_none(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    with (
        serving_grpc(tmp_path, half(tmp_path), "--token-file", tmp_path / "tokens") as (running, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert halved(channel, metadata=BEARER)
        for wrong in (None, (("authorization", "Bearer other"),), (("authorization", "Basic secret"),)):
            code, text = failure(channel, "Predict", ASK, metadata=wrong)
            assert code == "UNAUTHENTICATED"
            assert "want a bearer token" in text
        assert raw(channel, "/grpc.health.v1.Health/Check")(b"", timeout=WITHIN_S) == b"\x08\x01"
        for name in ("ServerLive", "ServerReady"):
            assert raw(channel, f"/inference.GRPCInferenceService/{name}")(b"", timeout=WITHIN_S) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, "/inference.GRPCInferenceService/ServerMetadata")(b"", timeout=WITHIN_S)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        (tmp_path / "tokens").write_text("next\n")
        running.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: "reloaded" in running.log.read_text(), running.log.read_text)
        assert failure(channel, "Predict", ASK, metadata=BEARER)[0] == "UNAUTHENTICATED"


def test_a_large_message_without_a_token_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield bytes(1 << 20)

    with (
        serving_grpc(tmp_path, half(tmp_path), "--token-file", tmp_path / "tokens") as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.stream_unary("/tensorflow.serving.PredictionService/Predict")(chunks(), timeout=WITHIN_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert sent < 20


def test_tls_is_spoken_with_the_next_certificate_once_it_is_there(tmp_path: Path, authority: Authority) -> None:
    _install(authority, tmp_path, "first")
    arguments = ("--set", f"grpc.tls_cert={tmp_path / 'cert.pem'}", "--set", f"grpc.tls_key={tmp_path / 'cert.key'}")
    with serving_grpc(tmp_path, half(tmp_path), *arguments) as (running, port):
        assert _answers(authority, port, "first")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
            assert failure(plain, "Predict", ASK)[0] == "UNAVAILABLE"
        (tmp_path / "cert.pem").write_text("half a")
        assert _answers(authority, port, "first")
        assert "the old certificate holds" in running.log.read_text()
        _install(authority, tmp_path, "second")
        assert _answers(authority, port, "second")


def test_who_has_no_certificate_of_the_authority_is_not_let_in(tmp_path: Path, authority: Authority) -> None:
    _install(authority, tmp_path, "server")
    arguments = [f"grpc.tls_cert={tmp_path / 'cert.pem'}", f"grpc.tls_key={tmp_path / 'cert.key'}"]
    arguments.append(f"grpc.client_ca={authority.ca}")
    settings = [word for each in arguments for word in ("--set", each)]
    with serving_grpc(tmp_path, half(tmp_path), *settings) as (_, port):
        roots = authority.ca.read_bytes()
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(roots)) as nobody:
            assert failure(nobody, "Predict", ASK)[0] == "UNAVAILABLE"
        cert, key = authority.issue("client")
        known = grpc.ssl_channel_credentials(roots, key.read_bytes(), cert.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", known) as channel:
            assert halved(channel)


def _install(authority: Authority, where: Path, name: str) -> None:
    cert, key = authority.issue(name)
    for source, target in ((key, "cert.key"), (cert, "cert.pem")):
        shutil.copy(source, where / "new")
        os.replace(where / "new", where / target)


def _answers(authority: Authority, port: int, name: str) -> bool:
    """Whether a new connection is answered, with the certificate of that name."""
    trusted = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    alone = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{port}", trusted, options=alone) as channel:
        answered = halved(channel)
    context = ssl.create_default_context(cafile=str(authority.ca))
    plain = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(plain, server_hostname="localhost") as wire:
        shown = wire.getpeercert() or {}
    subject: Any = shown["subject"]
    return answered and subject[0][0][1] == name


def test_a_unix_socket_answers_its_owner_and_group_and_is_gone_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()  # as a server leaves it that was killed
    with serving(tmp_path, half(tmp_path), "--set", f"grpc.uds={path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert halved(channel)
        (tmp_path / "other").mkdir()
        said = _fails_to_start(tmp_path / "other", half(tmp_path / "other"), "--set", f"grpc.uds={path}")
        assert f"{path}: another server listens there" in said
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert halved(channel)
    assert not path.exists()


def test_a_port_that_is_taken_is_no_start(tmp_path: Path) -> None:
    with serving_grpc(tmp_path, half(tmp_path)) as (_, port):
        (tmp_path / "other").mkdir()
        arguments = ("--set", "grpc.host=127.0.0.1", "--set", f"grpc.port={port}")
        said = _fails_to_start(tmp_path / "other", half(tmp_path / "other"), *arguments)
        assert f"port {port} of 127.0.0.1 cannot be had for gRPC" in said


def _fails_to_start(path: Path, *arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    command = [
        sys.executable,
        "-m",
        "edge",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        "--state-dir",
        str(path / "s"),
    ]
    done = subprocess.run(
        [*command, "--set", f"admin.uds={path / 'a'}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | (environment or {}),
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_who_has_not_installed_it_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "grpc.py").write_text("raise ImportError(\"No module named 'grpc'\")\n")
    arguments = ("--set", "grpc.host=127.0.0.1", "--set", "grpc.port=0")
    said = _fails_to_start(tmp_path, half(tmp_path), *arguments, environment={"PYTHONPATH": str(tmp_path / "without")})
    assert "cannot start: [grpc] needs grpcio and protobuf: install edge-serving[grpc] (No module named 'grpc')" in said
