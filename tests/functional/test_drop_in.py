"""`tensorflow_model_server` in TensorFlow Serving's place: its files served, reloaded under clients, refused in its words."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from edge.config.tfserving.files import MAX_FILE_BYTES
from edge.sources.stillness import SETTLE_S
from edge.tfserving_cli.settle import has_grpc
from tests import tflite_models
from tests.functional.drop_in import Asking, command, environment, free_port, said, standing_in, started
from tests.functional.server import Running, serving
from tests.functional.test_tls import Authority
from tests.waiting import until_blocking

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
HALF = b'{"instances": [1.0]}'


def predict(server: Running, route: str) -> float | str:
    """What 1 becomes there, or why nothing."""
    code, body = server.ask(f"/v1/models/{route}:predict", HALF)
    found: float | str = json.loads(body)["predictions"][0] if code == 200 else json.loads(body)["error"]
    return found


def put(models: Path, name: str, version: int, factor: float) -> Path:
    """A model that multiplies by the factor, renamed into place."""
    staging = models / f".{name}-{version}"
    staging.mkdir(parents=True)
    (staging / "model.tflite").write_bytes(tflite_models.scaling(factor))
    (models / name).mkdir(exist_ok=True)
    staging.rename(models / name / str(version))
    return models / name


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version, factor in ((1, 0.5), (2, 0.25)):
        put(tmp_path / "models", "half", version, factor)
    put(tmp_path / "models", "double", 7, 2.0)
    return tmp_path / "models"


def entry(models: Path, name: str, more: str = "", platform: str = "tensorflow") -> str:
    return f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "{platform}" {more} }}\n'


def write(file: Path, *models: str) -> Path:
    """Renamed into place, as one that is polled should be."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(f"model_config_list {{\n{''.join(models)}}}\n")
    fresh.rename(file)
    return file


ALL = "model_version_policy { all {} }"


def stable(version: int) -> str:
    return f"{ALL} version_labels {{ key: 'stable' value: {version} }}"


def states(server: Running, name: str) -> dict[str, str]:
    """By version; empty for a model that nobody knows."""
    code, body = server.ask(f"/v1/models/{name}")
    return {row["version"]: row["state"] for row in json.loads(body)["model_version_status"]} if code == 200 else {}


def test_models_of_a_config_file_are_served_by_version_label_and_policy(models: Path, tmp_path: Path) -> None:
    config = write(
        tmp_path / "models.config",
        entry(models, "half", stable(1)),
        entry(models, "double", "model_version_policy { specific { versions: 7 versions: 9 } }"),
        entry(models, "missing"),
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/figures" }')
    flags = (f"--model_config_file={config}", "--monitoring_config_file", monitoring, "--rest_api_timeout_in_ms=5000")
    with standing_in(tmp_path, *flags, "--enable_model_warmup=false") as server:
        assert "--enable_model_warmup: warm-up requests" in server.log.read_text()
        for route, value in (("half", 0.25), ("half/versions/1", 0.5), ("half/labels/stable", 0.5), ("double", 2.0)):
            assert predict(server, route) == value
        assert states(server, "half") == {"2": "AVAILABLE", "1": "AVAILABLE"}
        assert predict(server, "missing") == "Servable not found for request: Latest(missing)"
        code, metrics = server.ask("/figures")
        assert code == 200
        assert b':tensorflow:serving:request_count{model_name="half",status="OK"} 3' in metrics
        assert server.ask("/figures?x=1") == (400, b"Unexpected path: /figures?x=1. Should be /figures")
        assert server.ask("/monitoring/prometheus/metrics")[0] == 404


def test_a_config_in_json_form_and_a_model_of_flags_are_served(models: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.json"
    model = {"name": "half", "base_path": str(models / "half"), "model_platform": "tensorflow"}
    config.write_text(json.dumps({"model_config_list": {"config": [model]}}))
    with standing_in(tmp_path, f"--model_config_file={config}", "--model_name=passed_over") as server:
        assert states(server, "half") == {"2": "AVAILABLE"}
    (models / "half" / "2" / "saved_model.pb").write_bytes(b"not what is wanted")
    flags = (
        "--model_name",
        "mine",
        "--model_base_path",
        models / "half",
        "--prefer_tflite_model",
        "--noenable_batching",
    )
    with standing_in(tmp_path, *flags, "--no_such_flag=1") as server:
        assert predict(server, "mine") == 0.25
        assert "unknown argument: --no_such_flag=1\n" in server.log.read_text()


def test_a_config_that_changes_under_clients_loses_no_request(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half", stable(1)), entry(models, "double"))
    put(models, "third", 1, 3.0)
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    with standing_in(tmp_path, *flags) as server:
        clients = [Asking(server.port, f"/v1/models/half{route}:predict", HALF) for route in ("/labels/stable", "")]
        for client in clients:
            client.start()
        labelled, newest = clients
        labelled.more()
        write(file, entry(models, "half", stable(2)), entry(models, "third"))
        until_blocking(lambda: labelled.answers[0.25])
        until_blocking(lambda: states(server, "third") == {"1": "AVAILABLE"})
        until_blocking(lambda: not states(server, "double"), lambda: states(server, "double"))
        assert predict(server, "third") == 3.0
        assert predict(server, "double") == "Servable not found for request: Latest(double)"
        for wrong, words in (
            ("# a file that is being written", "Taking no action for empty config."),
            ("garbage", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:8: Message type"),
            ("#" * (MAX_FILE_BYTES + 1), f"want at most {MAX_FILE_BYTES} bytes"),
            (entry(models, "half") * 2, "Illegal to list model half multiple times in config list"),
            (
                entry(models, "half", platform="caffe"),
                "Illegal to change a model's platform. For model half platform was tensorflow and new platform "
                "requested is caffe",
            ),
            (
                entry(models, "half", stable(9)),
                "Request to assign label to version 9 of model half, which is not currently available for inference",
            ),
        ):
            listed = wrong if wrong[0] in "g#" else f"model_config_list {{ {wrong} }}"
            file.with_name("fresh").write_text(listed)
            file.with_name("fresh").rename(file)
            said(server, words)
            labelled.more()
            assert states(server, "third") == {"1": "AVAILABLE"}, "what serves is left as it is"
        kept = file.rename(tmp_path / "kept")
        said(server, f"{file}; No such file or directory")
        labelled.more()
        kept.rename(file)
        put(models, "half", 9, 9.0)
        until_blocking(lambda: labelled.answers[9.0])
        until_blocking(lambda: not states(server, "third"), lambda: states(server, "third"))
        newest.more()
        for client in clients:
            client.over.set()
            client.join(10)
            assert client.failures == []
        assert labelled.answers.keys() == {0.5, 0.25, 9.0}


def test_a_policy_that_goes_back_to_an_older_version_loses_no_request(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half"))
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    with standing_in(tmp_path, *flags) as server:
        client = Asking(server.port, "/v1/models/half:predict", HALF)
        client.start()
        client.more()
        write(file, entry(models, "half", "model_version_policy { specific { versions: 1 } }"))
        until_blocking(lambda: client.answers[0.5], lambda: client.failures[:3])
        until_blocking(lambda: states(server, "half") == {"2": "END", "1": "AVAILABLE"}, lambda: states(server, "half"))
        write(file, entry(models, "half", "model_version_policy { latest { num_versions: 2 } }"))
        until_blocking(lambda: states(server, "half") == {"2": "AVAILABLE", "1": "AVAILABLE"})
        client.more()
        client.over.set()
        client.join(10)
        assert client.failures == []
        assert predict(server, "half") == 0.25


def test_a_label_that_is_new_may_wait_for_its_version_where_that_is_allowed(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half", ALL))
    flags = (f"--model_config_file={file}", "--allow_version_labels_for_unavailable_models")
    with standing_in(tmp_path, *flags) as server:
        write(file, entry(models, "half", stable(3)))
        server.process.send_signal(signal.SIGHUP)
        said(server, "edge.reloading: reloaded")
        assert predict(server, "half/labels/stable") == "Servable not found for request: Specific(half, 3)"
        put(models, "half", 3, 8.0)
        until_blocking(lambda: predict(server, "half/labels/stable") == 8.0)


def test_how_often_directories_are_looked_at_is_what_the_flag_says(models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "models.config", entry(models, "half"), entry(models, "double"))
    once = standing_in(tmp_path, f"--model_config_file={file}", "--file_system_poll_wait_seconds=0")
    (tmp_path / "other").mkdir()
    with once as server, standing_in(tmp_path / "other", f"--model_config_file={file}") as polling:
        put(models, "half", 3, 3.0)
        until_blocking(lambda: predict(polling, "half") == 3.0)
        shutil.rmtree(models / "double" / "7")
        until_blocking(lambda: predict(polling, "double") == "Servable not found for request: Latest(double)")
        assert predict(server, "half") == 0.25
        assert predict(server, "double") == 2.0


def test_the_port_is_taken_at_once_and_open_when_every_model_has_been_tried(models: Path, tmp_path: Path) -> None:
    """A version whose files still change is being tried."""
    version = put(models, "late", 1, 4.0) / "1"
    with started(tmp_path, f"--model_base_path={models / 'late'}") as server:

        def listens() -> bool:
            (version / "labels.txt").write_text("changes before the first look, too")
            return "listening on" in server.log.read_text()

        until_blocking(listens, server.log.read_text)
        last = time.monotonic()
        for number in range(30):
            (version / "labels.txt").write_text(str(number))
            if time.monotonic() - last > SETTLE_S / 2:
                break  # the machine was busy with something else, and they may have stood still for long enough
            last = time.monotonic()
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED
            time.sleep(0.05)  # for longer in all than files must stand still
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))
        said(server, f"Exporting HTTP/REST API at:localhost:{server.port} ...")
        assert predict(server, "default") == 4.0


BAD: list[tuple[str, list[str], str, str]] = [
    ("no model", [], "", "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
    ("relative path", ["--model_base_path=m"], "", "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=m"),
    ("no file", ["--model_config_file=/no/such"], "", "NOT_FOUND: /no/such; No such file or directory"),
    ("garbage", ["--model_config_file={}/a"], "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1: Interpreting non ascii codepoint 226.", "INVALID_ARGUMENT: Invalid protobuf file: '{}/a'"),
    ("batching alone", ["--model_base_path=/m", "--batching_parameters_file={}/a"], "", "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting server_options.enable_batching to true."),
    ("bad monitoring", ["--model_base_path=/m", "--monitoring_config_file={}/b"], 'Error parsing text-format tensorflow.serving.MonitoringConfig: 2:8: Expected ":", found "1".', "INVALID_ARGUMENT: Invalid protobuf file: '{}/b'"),
    ("nothing to listen on", ["--model_base_path=/m", "--rest_api_port=0"], "", "INVALID_ARGUMENT: "),
    ("no port", ["--model_base_path=/m", "--rest_api_port=70000"], "", "INVALID_ARGUMENT: flag http.port: http.port: want an integer from 0 to 65535, got 70000"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "errors", "error"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_where_it_cannot_start_it_says_so_and_leaves_as_tensorflow_serving(
    flags: list[str], errors: str, error: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("❯ garbage")
    (tmp_path / "b").write_text("prometheus_config {\nenable 1 }")
    words = [word.replace("{}", str(tmp_path)) for word in ("--port=0", "--rest_api_port=8501", *flags)]
    done = run(tmp_path, *words)
    assert done.returncode == 255
    assert done.stdout.startswith(f"Failed to start server. Error: {error.replace('{}', str(tmp_path))}")
    assert done.stderr.strip() == errors or (not errors and not done.stderr)


def run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, timeout=30, env=environment(tmp_path)
    )


def test_a_flag_that_cannot_be_read_prints_the_usage_and_leaves_with_255(tmp_path: Path) -> None:
    done = run(tmp_path, "--port=eight")
    assert (done.returncode, done.stderr) == (255, "Couldn't interpret value eight for flag port.\n")
    assert "\t--rest_api_port=0\t" in done.stdout
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("TensorFlow ModelServer: edge 0.")


@pytest.mark.parametrize("asked", [True, False], ids=["with a flag", "without"])
def test_requests_share_runs_as_the_batching_parameters_file_says_and_without_the_flag_they_do_not(
    models: Path, tmp_path: Path, asked: bool
) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 4 } allowed_batch_sizes: [2, 4] num_batch_threads { value: 1 }")
    flags = ("--enable_batching", f"--batching_parameters_file={file}") if asked else ()
    with standing_in(tmp_path, "--model_name=half", f"--model_base_path={models / 'half'}", *flags) as server:
        code, body = server.ask("/v1/models/half:predict", json.dumps({"instances": [1.0] * 7}).encode())
        assert (code, json.loads(body)) == (200, {"predictions": [0.25] * 7})
        runs = 'edge_batch_size_count{model="half",version="2"} 2.0' in server.ask("/metrics")[1].decode()
    assert runs is asked, "seven rows are four and three"


def test_what_import_config_prints_is_served_as_the_files_were(models: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "models.config", entry(models, "half", stable(1)), entry(models, "double"))
    batching = tmp_path / "batching.config"
    batching.write_text("max_batch_size { value: 4 } num_batch_threads { value: 2 } max_enqueued_batches { value: 8 }")
    toml = tmp_path / "edge.toml"
    words = ["import-config", config, batching, "-o", toml, "--", "--rest_api_timeout_in_ms", "5000", "--foo"]
    done = edge(tmp_path, *words)
    assert (done.returncode, done.stdout) == (0, "")
    assert "not carried: unknown argument: --foo\n" in done.stderr
    assert edge(tmp_path, *words).returncode == 1, "nothing is overwritten"
    with serving(tmp_path, "--config", toml, "--host", "127.0.0.1") as server:
        until_blocking(lambda: predict(server, "half/labels/stable") == 0.5)
        assert states(server, "double") == {"7": "AVAILABLE"}
    shown: dict[str, Any] = json.loads(edge(tmp_path, "config", "show", "--json", "--config", toml).stdout)
    assert (shown["server.request_timeout_s"], shown["models.half.instances"]) == (5.0, 2)
    assert edge(tmp_path, "import-config", tmp_path / "none").returncode == 2


def edge(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    full = [command()[0], "-m", "edge", *map(str, words)]
    return subprocess.run(full, capture_output=True, text=True, check=False, timeout=30, env=environment(tmp_path))


@pytest.mark.skipif(not has_grpc(), reason="no gRPC here: the extra grpc is not installed")
def test_grpc_has_the_keys_that_stand_in_the_file_and_asks_clients_for_theirs(
    models: Path, tmp_path: Path, authority: Authority
) -> None:
    grpc = pytest.importorskip("grpc")
    certificate, key = authority.issue("drop-in")
    ssl = tmp_path / "ssl.config"
    parts = {"server_key": key, "server_cert": certificate, "custom_ca": authority.ca}
    ssl.write_text("".join(f'{part}: "{file.read_text()}"\n' for part, file in parts.items()) + "client_verify: true\n")
    port = free_port()
    flags = (f"--port={port}", "--rest_api_port=0", f"--model_base_path={models / 'half'}", f"--ssl_config_file={ssl}")
    with started(tmp_path, *flags, more={"EDGE_GRPC__HOST": "127.0.0.1"}) as server:
        said(server, f"Running gRPC ModelServer at 0.0.0.0:{port} ...")
        trusted = authority.ca.read_bytes()
        mine = {"private_key": key.read_bytes(), "certificate_chain": certificate.read_bytes()}
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(trusted, **mine)) as channel:
            answer = channel.unary_unary(STATUS)(b"\x0a\x09\x0a\x07default", timeout=60)
        assert b"\x08\x02\x10\x1e" in answer, "version 2 is in state 30, which is AVAILABLE"
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(trusted)) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(STATUS)(b"\x0a\x09\x0a\x07default", timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Exporting HTTP" not in server.log.read_text()


@pytest.fixture(scope="module")
def authority(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(openssl, tmp_path_factory.mktemp("authority"))
