"""The commands that ask a running server."""

import io
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from edge.cli import exits
from tests.unit.cli.conftest import Run
from tests.unit.cli.far_side import FarSide, far_side

INDEX = [
    {"name": "det", "version": "2", "state": "READY"},
    {"name": "det", "version": "1", "state": "UNAVAILABLE", "reason": "too\nbig"},
]


def test_health_is_an_exit_code(run: Run, far: FarSide) -> None:
    far.answers = {"GET /v2/health/ready": (200, b""), "GET /v2/health/live": (200, b"")}
    assert run("health", "--url", far.url) == (exits.OK, "ready\n", "")
    assert run("health", "--url", far.url, "--quiet") == (exits.OK, "", "")
    far.answers["GET /v2/health/ready"] = (503, b"")
    assert run("health", "--url", far.url) == (exits.FAILED, "not ready: 503 Service Unavailable\n", "")
    assert run("health", "--url", far.url, "--live", "--json") == (exits.OK, '{\n  "live": true\n}\n', "")


def test_no_server_is_told_from_a_server_that_says_no(run: Run) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens: a connection is refused
        port = held.getsockname()[1]
        code, out, err = run("health", "--url", f"127.0.0.1:{port}")
    assert (code, out) == (exits.UNREACHABLE, "")
    assert f"http://127.0.0.1:{port}: Connection refused" in err


def test_a_server_that_never_answers_is_given_up(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = run("health", "--url", url, "--timeout", "0.2")
    assert code == exits.UNREACHABLE
    assert "timed out" in err


def test_a_unix_socket_is_reached(run: Run, tmp_path: Path) -> None:
    with far_side(tmp_path / "e.sock") as far:
        far.answers = {"GET /v2/health/ready": (200, b"")}
        assert run("health", "--uds", tmp_path / "e.sock")[0] == exits.OK
    code, _, err = run("health", "--uds", tmp_path / "none.sock")
    assert code == exits.UNREACHABLE
    assert "No such file" in err


def test_a_token_is_read_from_a_file_and_shown(
    run: Run, far: FarSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    far.answers = {"GET /edge/v2/health/ready": (200, b"")}
    monkeypatch.setenv("EDGE_URL", far.url + "/edge/")
    monkeypatch.setenv("EDGE_TOKEN_FILE", str(tmp_path / "token"))
    assert run("health")[0] == exits.OK
    assert far.asked[0].headers["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("content", [b"", b"a\r\nX: y", b"\xff"])
def test_a_token_file_without_a_token_is_refused(run: Run, far: FarSide, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    code, _, err = run("health", "--url", far.url, "--token-file", tmp_path / "token")
    assert code == exits.USAGE
    assert "--token-file" in err
    assert not far.asked


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[::1", "http://h:port"])
def test_an_address_that_is_none_is_a_usage_error(run: Run, url: str) -> None:
    code, _, err = run("health", "--url", url)
    assert code == exits.USAGE
    assert "--url" in err


def test_models_are_listed_for_people_and_for_programs(run: Run, far: FarSide) -> None:
    far.answers = {"POST /v2/repository/index": (200, INDEX)}
    code, out, _ = run("models", "--url", far.url)
    assert code == exits.OK
    assert out.splitlines() == [
        "NAME  VERSION  STATE        REASON",
        "det   2        READY",
        "det   1        UNAVAILABLE  too�big",
    ]
    assert run("models", "ls", "--url", far.url)[1] == out
    assert json.loads(run("models", "ls", "--json", "--url", far.url)[1]) == INDEX
    far.answers = {"POST /v2/repository/index": (200, [])}
    assert run("models", "--url", far.url) == (exits.OK, "", "no models\n")


def test_an_option_that_would_not_count_is_refused(run: Run, far: FarSide) -> None:
    code, _, err = run("models", "--url", far.url, "unload", "det")
    assert code == exits.USAGE
    assert "put the options behind 'unload'" in err


def test_a_model_is_shown_with_its_tensors_and_versions(run: Run, far: FarSide) -> None:
    status = {"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": {"error_message": ""}}]}
    tensor = {"name": "x", "datatype": "UINT8", "shape": [-1, 224, 224, 3]}
    far.answers = {
        "GET /v1/models/a.b": (200, status),
        "GET /v2/models/a.b": (200, {"name": "a.b", "platform": "tflite", "inputs": [tensor], "outputs": []}),
    }
    code, out, _ = run("models", "show", "a.b", "--url", far.url)
    assert code == exits.OK
    assert [line.split() for line in out.splitlines()] == [
        ["a.b", "tflite"],
        ["input", "x", "UINT8", "[?,224,224,3]"],
        ["version", "3", "AVAILABLE"],
    ]
    far.answers.pop("GET /v2/models/a.b")
    shown = json.loads(run("models", "show", "a.b", "--json", "--url", far.url)[1])
    assert shown == {"metadata": None, **status}


def test_a_model_that_is_not_there_leaves_with_3(run: Run, far: FarSide) -> None:
    code, out, err = run("models", "show", "a/b", "--url", far.url)
    assert (code, out) == (exits.NOT_FOUND, "")
    assert err == f"Error: {far.url}: 404 no /v1/models/a%2Fb\n"


def test_loading_and_unloading_say_what_happened(run: Run, far: FarSide) -> None:
    far.answers = {
        "POST /v2/repository/models/det/load": (200, b""),
        "POST /v2/repository/models/det/unload": (403, {"error": "model control is off"}),
        "POST /v2/repository/models/big/load": (500, {"error": "too big"}),
    }
    assert run("models", "load", "det", "--url", far.url) == (exits.OK, "", "det: loaded\n")
    code, _, err = run("models", "unload", "det", "--url", far.url)
    assert code == exits.FAILED
    assert err == f"Error: {far.url}: model control is off; `edge serve --model-control` allows it\n"
    assert "500 too big" in run("models", "load", "big", "--url", far.url)[2]


def test_a_picture_is_sent_as_it_is_and_answered_by_name(run: Run, far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "cat.JPG").write_bytes(b"\xff\xd8picture")
    choices = [{"label": "Egyptian cat", "index": 286, "score": 0.7578, "quantized": 194}]
    choices += [{"label": "tabby", "index": 282, "score": None}]
    far.answers = {"POST /v1/models/net/versions/2:predict?top=2": (200, {"predictions": [choices]})}
    code, out, _ = run("predict", "net", tmp_path / "cat.JPG", "--top", 2, "--version", 2, "--url", far.url)
    assert code == exits.OK
    assert out.splitlines() == ["0.7578  286  Egyptian cat", "nan     282  tabby"]
    assert far.asked[0].body == b"\xff\xd8picture"
    assert far.asked[0].headers["Content-Type"] == "image/jpeg"
    args = ("predict", "net", tmp_path / "cat.JPG", "--top", 2, "--version", 2, "--json", "--url", far.url)
    assert json.loads(run(*args)[1]) == {"predictions": [choices]}


def test_a_class_that_has_no_name_is_told_by_its_number_once(run: Run, far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"picture")
    choices = [{"label": "286", "index": 286, "score": 0.7578}, {"label": "7", "index": 7, "score": 0.125}]
    far.answers = {"POST /v1/models/net:predict?top=2": (200, {"predictions": [choices]})}
    code, out, _ = run("predict", "net", tmp_path / "cat.png", "--top", 2, "--url", far.url)
    assert (code, out.splitlines()) == (exits.OK, ["0.7578  286", "0.1250  7"])


def test_a_request_in_json_is_sent_as_it_is(run: Run, far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"instances": [1]}')
    far.answers = {"POST /v1/models/half:predict": (200, {"predictions": [2.5]})}
    code, out, _ = run("predict", "half", tmp_path / "r.json", "--url", far.url)
    assert (code, json.loads(out)) == (exits.OK, {"predictions": [2.5]})
    assert far.asked[0].body == b'{"instances": [1]}'


def test_an_array_is_sent_as_little_endian_bytes(run: Run, far: FarSide, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 2]], ">f4"))
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.5, 3.0]}
    far.answers = {
        "GET /v2/models/half": (200, {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}),
        "POST /v2/models/half/infer": (200, {"outputs": [output]}),
    }
    code, out, _ = run("predict", "half", tmp_path / "x.npy", "--url", far.url)
    assert code == exits.OK
    assert out.splitlines() == ["y FP32 [1, 2]", "[[2.5 3. ]]"]
    asked = far.asked[1]
    size = int(asked.headers["Inference-Header-Content-Length"])
    assert json.loads(asked.body[:size]) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]
    }
    assert asked.body[size:] == np.array([[1, 2]], "<f4").tobytes()


def test_an_array_that_could_run_code_is_refused(run: Run, far: FarSide, tmp_path: Path) -> None:
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(pickled.getvalue())
    code, _, err = run("predict", "half", tmp_path / "x.npy", "--url", far.url)
    assert code == exits.FAILED
    assert "want a .npy file of numbers" in err
    assert not far.asked


def test_a_file_that_is_not_there_or_of_no_known_kind_is_refused(run: Run, far: FarSide, tmp_path: Path) -> None:
    assert run("predict", "m", tmp_path / "none.jpg", "--url", far.url)[0] == exits.NOT_FOUND
    (tmp_path / "x.gif").touch()
    code, _, err = run("predict", "m", tmp_path / "x.gif", "--url", far.url)
    assert code == exits.USAGE
    assert "want .jpg, .jpeg, .png, .bmp, .json or .npy" in err
    assert not far.asked


def test_an_answer_that_is_not_one_of_ours_is_told(run: Run, far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "c.png").touch()
    far.answers = {"POST /v1/models/m:predict?top=3": (200, b"<html>")}
    assert "want JSON, got b'<html>'" in run("predict", "m", tmp_path / "c.png", "--url", far.url)[2]
    far.answers = {"POST /v1/models/m:predict?top=3": (200, {"predictions": [[1.5]]})}
    code, _, err = run("predict", "m", tmp_path / "c.png", "--url", far.url)
    assert code == exits.FAILED
    assert '"predictions"' in err
