from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import ConfigError, load_config, missing_files, resolve
from edge.domain.toml import find_lines


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def problems(file: Path | None = None, env: dict[str, str] | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load_config(file, env or {}, {key.replace("__", "."): value for key, value in flags.items()})
    return raised.value.problems


def test_a_flag_beats_the_environment_that_beats_the_file_that_beats_the_default(tmp_path: Path) -> None:
    file = write(tmp_path / "edge.toml", "[http]\nport = 1\nkeepalive_s = 2\nheader_timeout_s = 3\n")
    env = {"EDGE_HTTP__PORT": "11", "EDGE_HTTP__KEEPALIVE_S": "12"}
    resolved = resolve(file, env, {"http.port": 21, "http.uds": None})
    http = resolved.config.http
    assert (http.port, http.keepalive_s, http.header_timeout_s, http.body_timeout_s) == (21, 12.0, 3.0, 60.0)
    assert {key: resolved.origins[f"http.{key}"] for key in ("port", "keepalive_s", "header_timeout_s", "uds")} == {
        "port": "flag http.port",
        "keepalive_s": "EDGE_HTTP__KEEPALIVE_S",
        "header_timeout_s": f"{file}:4",
        "uds": "default",
    }


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    file = write(
        tmp_path / "edge.toml",
        '[htp]\nport = 1\n\n[http]\nprot = 8000\nport = "x" # a comment\ncors = 1\n\n[models."a.b"]\npath = "m"\n'
        'labels = { stable = 0 }\n[models."../x"]\npath = "m"\n',
    )
    assert problems(file, {"EDGE_LOG__LEVEL": "loud"}, http__max_connections=0) == (
        f"{file}:2: htp.port: no such section; did you mean http?",
        f"{file}:5: http.prot: no such key; did you mean http.port?",
        f'{file}:6: http.port: want an integer from 0 to 65535, got "x"',
        f"{file}:7: http.cors: want true or false, got 1",
        f'{file}:11: models.a.b.labels: want a table from names to an integer of at least 1, got {{"stable": 0}}',
        f"{file}:12: models.../x: not a model's name: want 1 to 128 of A-Z a-z 0-9 _ . - with a letter or digit first",
        f"{file}:13: models.../x.path: not a model's name: "
        "want 1 to 128 of A-Z a-z 0-9 _ . - with a letter or digit first",
        'EDGE_LOG__LEVEL: log.level: want one of debug, error, info, warning, got "loud"',
        "flag http.max_connections: http.max_connections: want an integer of at least 1, got 0",
    )


def test_a_key_of_another_section_is_pointed_there() -> None:
    assert problems(http__drain_s=1) == ("flag http.drain_s: http.drain_s: no such key; did you mean server.drain_s?",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nport = \n", ":2: not TOML"),
        ("[http]\nport = 1\n[http]\n", ":3: not TOML"),
        ("a = 'x\n", ":1: not TOML"),
        ("port = 8501\n", ":1: port: no such section"),
        ("http = 8501\n", ":1: http: want a table [http]"),
        ("[models]\ndet = 'x'\n", ":2: models.det: want a table [models.det]"),
        ("[[http]]\nport = 1\n", ":1: http: want a table [http]"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (problem,) = problems(write(tmp_path / "e.toml", text))
    assert message in problem


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == (f"{tmp_path / 'none.toml'}: No such file or directory",)
    (tmp_path / "bin.toml").write_bytes(b"[http]\n\xff\n")
    assert problems(tmp_path / "bin.toml") == (f"{tmp_path / 'bin.toml'}:2: not TOML: want UTF-8",)


def test_the_environment_reaches_a_model_whose_name_no_variable_can_hold(tmp_path: Path) -> None:
    file = write(tmp_path / "e.toml", '[models."mobile-net_v1.0"]\npath = "m"\n')
    env = {"EDGE_MODELS__MOBILE_NET_V1_0__NUM_THREADS": "4", "EDGE_MODELS__OTHER__PATH": "/o"}
    models = load_config(file, env).models
    assert models["mobile-net_v1.0"].num_threads == 4
    assert models["other"].path == Path("/o")


def test_lists_and_tables_can_be_said_in_one_word() -> None:
    env = {"EDGE_HTTP__ALLOWED_HOSTS": "a.local, b.local", "EDGE_MODELS__M__LABELS": "stable=3,canary=4"}
    config = load_config(None, env, {"models.m.path": "x"})
    assert config.http.allowed_hosts == ("a.local", "b.local")
    assert config.models["m"].labels == {"stable": 3, "canary": 4}
    assert problems(env={"EDGE_MODELS__M__LABELS": "stable", "EDGE_MODELS__M__PATH": "x"}) == (
        'EDGE_MODELS__M__LABELS: models.m.labels: want a table from names to an integer of at least 1, got "stable"',
    )


def test_the_variables_of_edge_sync_are_no_matter_of_the_servers() -> None:
    env = {"EDGE_SYNC_CONFIG": "agent.toml", "EDGE_SYNC_POLL__EVERY_S": "60", "EDGE_SYNC_STORE": "/srv/models"}
    assert resolve(None, env).warnings == ()


def test_other_names_of_the_environment_are_warned_of_and_ours_that_are_no_keys_are_not() -> None:
    env = {
        "EDGE_PORT_8501_TCP": "tcp://10.0.0.1:8501",
        "EDGE_RUNTIME": "litert",
        "EDGE_EDGETPU_LIBRARY": "x",
        "PATH": "/",
    }
    assert resolve(None, env).warnings == ("EDGE_PORT_8501_TCP: no such setting; a key is set by EDGE_SECTION__KEY",)
    assert problems(env={"EDGE_HTTP__PROT": "1"}) == (
        "EDGE_HTTP__PROT: http.prot: no such key; did you mean http.port?",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EDGE_HTTP_PORT", "did you mean EDGE_HTTP__PORT?"),
        ("EDGE_SERVER_MAX_INFLIGHT", "did you mean EDGE_SERVER__MAX_INFLIGHT?"),
        ("EDGE_PORT", "a key is set by EDGE_SECTION__KEY"),
    ],
)
def test_one_underscore_in_the_place_of_two_is_asked_back(name: str, hint: str) -> None:
    assert resolve(None, {name: "1"}).warnings == (f"{name}: no such setting; {hint}",)


def test_keys_that_contradict_each_other_are_told_with_who_set_them(tmp_path: Path) -> None:
    file = write(tmp_path / "e.toml", '[http]\nmax_body_bytes = 1000\n\ntls_cert = "c.pem"\n')
    assert problems(file, {"EDGE_SERVER__MAX_INFLIGHT_BODY_BYTES": "10"}) == (
        f"{file}:4: http.tls_cert, http.tls_key: want both or neither, got one",
        f"{file}:2: http.max_body_bytes: want at most server.max_inflight_body_bytes (10), got 1000",
    )


def test_batch_sizes_ascend_up_to_the_largest_one(tmp_path: Path) -> None:
    model = '[models.m]\npath = "m"\nmax_batch_size = 8\n'
    good = resolve(write(tmp_path / "e.toml", model + "allowed_batch_sizes = [2, 8]\n"))
    assert good.config.models["m"].options.allowed_batch_sizes == (2, 8)
    file = write(tmp_path / "e.toml", model + "allowed_batch_sizes = [2, 4]\n")
    (said,) = problems(file)
    assert said.endswith("want the last one to be max_batch_size (8), got [2, 4]")
    (said,) = problems(write(tmp_path / "e.toml", model + "allowed_batch_sizes = [4, 2, 8]\n"))
    assert "that ascend, got [4, 2, 8]" in said


def test_a_file_that_a_key_names_and_that_is_missing_is_told_with_the_keys_line(tmp_path: Path) -> None:
    file = write(tmp_path / "e.toml", '[http]\ntoken_file = "gone"\n')
    resolved = resolve(file)
    assert missing_files(resolved.config, resolved.origins) == [
        f"{file}:2: http.token_file: want a file, got {tmp_path / 'gone'}"
    ]


def test_a_line_is_counted_by_newlines_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "e.toml", "# one\u2028two\n[http]\nprot = 1\n")
    assert problems(file) == (f"{file}:3: http.prot: no such key; did you mean http.port?",)


def test_a_relative_path_in_a_file_starts_where_the_file_is(tmp_path: Path) -> None:
    file = write(tmp_path / "e.toml", '[http]\nuds = "run/e.sock"\ntoken_file = "/abs/token"\n[models.m]\npath = "m"\n')
    config = load_config(file, {}, {"models.n.path": "n"})
    assert config.http.uds == tmp_path / "run/e.sock"
    assert config.http.token_file == Path("/abs/token")
    assert config.models["m"].path == tmp_path / "m"
    assert config.models["n"].path == Path.cwd() / "n"


def test_lines_are_found_through_strings_that_look_like_tables() -> None:
    text = 'a = """\n[http]\nport = 1\n"""\n[http]\n"port" = 2\n[ models . "x.y" ]\nlabels.stable = 3\n'
    assert find_lines(text) == {
        ("a",): 1,
        ("http",): 5,
        ("http", "port"): 6,
        ("models", "x.y"): 7,
        ("models", "x.y", "labels", "stable"): 8,
    }


@settings(deadline=None)  # it writes files, and a disk that others use takes its time
@given(st.text(max_size=60))
def test_no_text_of_a_file_brings_out_anything_but_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.mktemp("c") / "e.toml"
    file.write_text(text, errors="replace")
    found: tuple[str, ...] = ()
    try:
        load_config(file)
    except ConfigError as error:
        found = error.problems
    assert all(problem.startswith(str(file)) for problem in found)
