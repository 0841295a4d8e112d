"""The ports of `tensorflow_model_server` for gRPC: taken at once, and open when it is ready."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.functional.drop_in import command, environment, free_port, said, started, still_written
from tests.functional.test_drop_in import put

grpc = pytest.importorskip("grpc")
from tests.functional.grpc_client import call, outputs, predict_request  # noqa: E402 - for those who have gRPC


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_the_port_for_grpc_is_taken_at_once_and_open_when_every_model_has_been_tried(
    models: Path, tmp_path: Path
) -> None:
    """A version whose files still change is being tried."""
    version = put(models, "late", 1, 4.0) / "1"
    port, unix = free_port(), tmp_path / "grpc.sock"
    flags = (f"--port={port}", "--rest_api_port=0", f"--grpc_socket_path={unix}", f"--model_base_path={version.parent}")
    listening = f"edge.app: listening on 127.0.0.1:{port} (gRPC), {unix} (gRPC)"
    with started(tmp_path, *flags, more={"EDGE_GRPC__HOST": "127.0.0.1"}) as server:
        with still_written(version):
            said(server, listening)
            for _ in range(5):
                for family, address in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, str(unix))):
                    with socket.socket(family) as probe, pytest.raises(ConnectionRefusedError):
                        probe.connect(address)
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            assert "Running gRPC" not in server.log.read_text()
        said(server, f"Running gRPC ModelServer at 0.0.0.0:{port} ...")
        for target in (f"127.0.0.1:{port}", f"unix:{unix}"):
            with grpc.insecure_channel(target) as channel:
                (y,) = outputs(call(channel, "Predict", predict_request("default", x=np.ones(1, np.float32)))).values()
                assert y == 4.0
    assert not unix.exists()


@pytest.mark.parametrize("what", ["port", "socket"])
def test_a_place_for_grpc_that_is_taken_ends_the_start_at_once(what: str, models: Path, tmp_path: Path) -> None:
    """Though the model would never come."""
    unix = tmp_path / "taken.sock"
    with socket.create_server(("127.0.0.1", 0)) as held, socket.socket(socket.AF_UNIX) as other:
        other.bind(str(unix))
        other.listen()
        flag = f"--port={held.getsockname()[1]}" if what == "port" else f"--grpc_socket_path={unix}"
        done = subprocess.run(
            command("--port=0", "--rest_api_port=0", flag, f"--model_base_path={models / 'never'}"),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=environment(tmp_path) | {"EDGE_GRPC__HOST": "127.0.0.1"},
        )
    assert done.returncode == 1
    assert "cannot start: " in done.stderr
    assert ("cannot be had for gRPC" if what == "port" else "another server listens there") in done.stderr


def test_a_server_that_is_ended_before_it_answers_leaves_nothing_behind(models: Path, tmp_path: Path) -> None:
    version = put(models, "late", 1, 4.0) / "1"
    port, unix = free_port(), tmp_path / "grpc.sock"
    flags = (f"--port={port}", "--rest_api_port=0", f"--grpc_socket_path={unix}", f"--model_base_path={version.parent}")
    with started(tmp_path, *flags, more={"EDGE_GRPC__HOST": "127.0.0.1"}) as server:
        with still_written(version):
            said(server, "edge.app: listening on")
            assert unix.exists()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0, server.log.read_text()
        assert "gRPC at" not in server.log.read_text()
    assert not unix.exists()
