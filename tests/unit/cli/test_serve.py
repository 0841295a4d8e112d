"""The commands that run here: serve, check, demo, config."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edge.cli import exits
from edge.cli.target import model_name
from edge.config import Config, ConfigError, load_config
from edge.telemetry.logs import LineHandler
from tests.tflite_models import scaling
from tests.unit.cli.conftest import Run


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, logging.raiseExceptions
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(handler)
    root.level, logging.raiseExceptions = before
    logging.captureWarnings(False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that an app was asked to serve; it says 0."""
    configs: list[Config] = []

    def serve(config: Config, **_: object) -> int:
        configs.append(config)
        return 0

    app = ModuleType("edge.app")
    app.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge.app", app)
    return configs


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("made", "given", "name", "path", "policy"),
    [
        ("mobilenet_v2.tflite", "mobilenet_v2.tflite", "mobilenet_v2", "mobilenet_v2.tflite", "latest:1"),
        ("det/model.tflite", "det/model.tflite", "det", "det/model.tflite", "latest:1"),
        ("det/model.tflite", "det", "det", "det/model.tflite", "latest:1"),
        ("det/3/model.tflite", "det", "det", "det", "latest:1"),
        ("det/3/model.tflite", "det/3", "det", "det", "specific:3"),
        ("det/003/model.tflite", "det/003/model.tflite", "det", "det", "specific:3"),
        ("det/3/saved_model.pb", "det/3", "det", "det", "specific:3"),
        ("my model (1).tflite", "my model (1).tflite", "my_model__1_", "my model (1).tflite", "latest:1"),
    ],
)
def test_a_path_is_served_under_the_name_it_suggests(
    run: Run, served: list[Config], tmp_path: Path, made: str, given: str, name: str, path: str, policy: str
) -> None:
    touch(tmp_path / "m" / made)
    assert run("serve", tmp_path / "m" / given)[0] == exits.OK
    assert {known: (model.path, model.policy) for known, model in served[0].models.items()} == {
        name: (tmp_path / "m" / path, policy)
    }


def test_a_directory_of_models_is_a_repository(run: Run, served: list[Config], tmp_path: Path) -> None:
    touch(tmp_path / "models/det/1/model.tflite")
    run("serve", tmp_path / "models")
    (tmp_path / "empty").mkdir()
    run("serve", tmp_path / "empty")
    assert [config.repository.path for config in served] == [tmp_path / "models", tmp_path / "empty"]
    assert not served[0].models


def test_models_can_be_named(run: Run, served: list[Config], tmp_path: Path) -> None:
    touch(tmp_path / "a.tflite")
    (tmp_path / "empty").mkdir()
    run("serve", "--model", f"one.v1={tmp_path / 'a.tflite'}", "--model", f"two={tmp_path / 'empty'}")
    assert {name: model.path for name, model in served[0].models.items()} == {
        "one.v1": tmp_path / "a.tflite",
        "two": tmp_path / "empty",
    }


def test_flags_become_settings(run: Run, served: list[Config], tmp_path: Path) -> None:
    model = touch(tmp_path / "a.tflite")
    config = tmp_path / "e.toml"
    config.write_text("[http]\nport = 1\nmodel_control = true\n[log]\nlevel = 'error'\n")
    code, _, _ = run(
        "serve", model, "--config", config, "--port", 0, "--uds", tmp_path / "e.sock", "--no-model-control",
        "--access-log", "--log-format", "json", "--set", "server.drain_s=3", "--state-dir", tmp_path,
    )  # fmt: skip
    assert code == exits.OK
    http, server, log = served[0].http, served[0].server, served[0].log
    assert (http.port, http.uds, http.model_control, http.access_log) == (0, tmp_path / "e.sock", False, True)
    assert (server.drain_s, server.state_dir, log.format, log.level) == (3.0, tmp_path, "json", "error")


def test_the_apps_exit_code_is_the_commands(run: Run, served: list[Config], tmp_path: Path) -> None:
    sys.modules["edge.app"].serve = lambda config, **_: 7  # type: ignore[attr-defined]
    assert run("serve", touch(tmp_path / "a.tflite"))[0] == 7


def test_a_port_open_to_others_without_a_token_is_warned_of(run: Run, served: list[Config], tmp_path: Path) -> None:
    model = touch(tmp_path / "a.tflite")
    assert "no http.token_file" in run("serve", model, "--host", "0.0.0.0")[2]
    assert run("serve", model, "--host", "127.0.0.1")[2] == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), exits.USAGE, "nothing to serve"),
        (("nothing.tflite",), exits.NOT_FOUND, "no such file or directory"),
        (("--model", "x=nothing"), exits.NOT_FOUND, "no such file or directory"),
        (("--model", "nothing"), exits.USAGE, "want NAME=PATH"),
        (("--model", "../x=/tmp"), exits.USAGE, "want NAME=PATH"),
        (("--set", "port=1"), exits.USAGE, "want SECTION.KEY=VALUE"),
        (("/tmp", "--set", "http.prot=1"), exits.USAGE, "did you mean http.port?"),
        (("/tmp", "--config", "/none.toml"), exits.USAGE, "/none.toml: No such file or directory"),
        (("/dev/null",), exits.USAGE, "want a .tflite file or a directory"),
    ],
)
def test_what_cannot_be_served_is_refused(
    run: Run, served: list[Config], args: tuple[str, ...], code: int, message: str
) -> None:
    left, out, err = run("serve", *args)
    assert (left, out) == (code, "")
    assert message in err
    assert not served


def test_a_saved_model_needs_a_directory_named_by_its_version(run: Run, served: list[Config], tmp_path: Path) -> None:
    code, _, err = run("serve", touch(tmp_path / "det/saved_model.pb").parent)
    assert code == exits.USAGE
    assert "NAME/1/saved_model.pb" in err


def test_every_text_becomes_a_name() -> None:
    assert [model_name(text) for text in ("", "…", ".x", "a" * 200, "é1")] == ["model", "model", "x", "a" * 128, "1"]


@pytest.mark.parametrize(("content", "code", "words"), [(scaling(2.0, (1, 2)), exits.OK, "ok"), (b"junk", 5, "FAILED")])
def test_a_check_leaves_with_its_verdict(run: Run, tmp_path: Path, content: bytes, code: int, words: str) -> None:
    version = tmp_path / "det" / "3"
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(content)
    left, out, _ = run("check", tmp_path, "--json")
    assert left == code
    told = json.loads(out)
    assert told["ok"] == (code == exits.OK)
    assert [(one["model"], one["version"]) for one in told["versions"]] == [("det", 3)]
    left, out, _ = run("check", version)
    assert left == code
    assert out.startswith(f"det@3 (tflite, {version}): {words}")


def test_a_check_of_a_directory_without_models_is_not_found(run: Run, tmp_path: Path) -> None:
    left, _, err = run("check", tmp_path)
    assert left == exits.NOT_FOUND
    assert "want a .tflite file" in err


def test_a_check_of_nothing_is_not_found(run: Run, tmp_path: Path) -> None:
    assert run("check", tmp_path / "none")[0] == exits.NOT_FOUND


def test_the_demo_is_run_as_it_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("edge.demo")
    module.run_demo = lambda once, port: 40 + once + port  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge.demo", module)
    assert run("demo", "--once", "--port", 1)[0] == 42


def test_a_configuration_is_checked(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text('[http]\nhost = "0.0.0.0"\n')
    code, out, err = run("config", "check", "--config", file)
    assert (code, out) == (exits.OK, "ok\n")
    assert err.startswith("warning: http.host 0.0.0.0 can be reached")
    file.write_text('[http]\ntoken_file = "none"\n')
    code, out, err = run("config", "check", "--config", file)
    assert (code, out) == (exits.USAGE, "")
    assert err == f"error: {file}:2: http.token_file: want a file, got {tmp_path}/none\n"
    assert json.loads(run("config", "check", "--config", file, "--json")[1])["ok"] is False
    file.write_text(f'[models.m]\npath = "{tmp_path}/later"\n')
    code, out, err = run("config", "check", "--config", file)
    assert (code, out) == (exits.OK, "ok\n"), "a model may come later"
    assert err == f"warning: models.m.path: nothing is at {tmp_path}/later yet\n"
    file.write_text("[http]\nprot = 1\n")
    code, _, err = run("config", "check", "--config", file)
    assert code == exits.USAGE
    assert f"{file}:2: http.prot: no such key; did you mean http.port?" in err


def test_what_is_shown_can_be_read_back(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(
        '[http]\nallowed_hosts = ["a", "b\\"c\\u007f"]\n[models."a.b"]\npath = "m"\nlabels = { "x y" = 1 }\ncpu_twin = ""\n'
    )
    code, out, _ = run("config", "show", "--config", file)
    assert code == exits.OK
    shown = tmp_path / "sub/shown.toml"
    shown.parent.mkdir()
    shown.write_text(out)
    assert load_config(shown) == load_config(file, {"HOME": str(tmp_path)})


def test_the_origin_of_every_setting_is_shown(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "e.toml"
    file.write_text("[http]\nport = 1\n")
    monkeypatch.setenv("EDGE_LOG__LEVEL", "debug")
    _, out, _ = run("config", "show", "--origin", "--config", file)
    assert f"\nport = 1  # {file}:2\n" in out
    assert '\nlevel = "debug"  # EDGE_LOG__LEVEL\n' in out
    assert "\ncors = false  # default\n" in out
    shown = json.loads(run("config", "show", "--origin", "--json", "--config", file)[1])
    assert shown["http.port"] == {"value": 1, "origin": f"{file}:2"}


def test_a_configuration_read_again_is_refused_by_an_error_that_a_running_server_survives(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    again: list[Callable[[], Config]] = []

    def serve(_: Config, *, reread: Callable[[], Config], **__: object) -> int:
        again.append(reread)
        return 0

    app = ModuleType("edge.app")
    app.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge.app", app)
    file = tmp_path / "edge.toml"
    good = f'[models.m]\npath = "{touch(tmp_path / "m.tflite")}"\n'
    file.write_text(good)
    run("serve", "--config", file)
    for bad, why in (("[models.m\n", "edge.toml"), ("[http]\nprot = 1\n", "prot"), ("", "nothing to serve")):
        file.write_text(bad)
        with pytest.raises(ConfigError, match=why):
            again[0]()
    file.write_text(good + "dequantize = true\n")
    assert again[0]().models["m"].dequantize


def test_a_file_that_is_not_there_is_named_with_its_key_before_anything_starts(
    run: Run, served: list[Config], tmp_path: Path
) -> None:
    code, _, err = run("serve", touch(tmp_path / "m.tflite"), "--token-file", tmp_path / "none")
    assert code == exits.USAGE
    assert f"http.token_file: want a file, got {tmp_path}/none" in err
    assert not served


def test_a_new_configuration_is_written_once_and_can_be_used(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    code, out, err = run("config", "init", file)
    assert (code, out) == (exits.OK, "")
    assert str(file) in err
    assert run("config", "init")[1] == file.read_text()
    assert run("config", "check", "--config", file)[0] == exits.OK
    code, _, err = run("config", "init", file)
    assert (code, "is not overwritten" in err) == (exits.FAILED, True)
    assert run("config", "init", tmp_path / "no" / "edge.toml")[0] == exits.FAILED


def test_the_configurations_schema_is_json(run: Run) -> None:
    assert json.loads(run("config", "schema")[1])["properties"]["http"]["properties"]["port"]["maximum"] == 65535
