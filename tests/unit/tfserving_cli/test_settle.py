"""Flags, environment and defaults: who wins, and where secrets go."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from edge.config import ConfigError
from edge.config.tfserving.carry import Carried
from edge.config.tfserving.flags import parse_flags
from edge.tfserving_cli import main
from edge.tfserving_cli import settle as module
from edge.tfserving_cli.settle import settle

FLAGS = ["--rest_api_port=8501", "--port=0", "--model_base_path=/m"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"EDGE_SERVER__STATE_DIR": str(tmp_path / "state"), "EDGE_ADMIN__UDS": str(tmp_path / "admin.sock")}


def test_the_environment_beats_what_is_done_unasked_and_a_flag_beats_both(env: dict[str, str]) -> None:
    assert settle(parse_flags(FLAGS), env).config.http.host == "0.0.0.0"
    more = env | {"EDGE_HTTP__HOST": "127.0.0.1", "EDGE_HTTP__PORT": "1", "EDGE_MODELS__DEFAULT__DEVICE": "gpu"}
    config = settle(parse_flags(FLAGS), more).config
    assert (config.http.host, config.http.port, config.models["default"].device) == ("127.0.0.1", 8501, "gpu")


@pytest.mark.parametrize(
    ("flag", "rows"), [("--rest_api_timeout_in_ms=1", 0), ("--enable_batching", 0), ("--noenable_batching", 1)]
)
def test_the_environment_may_ask_for_batches_that_no_flag_asks_for(env: dict[str, str], flag: str, rows: int) -> None:
    flags = parse_flags([*FLAGS, "--model_name=my-model.a", flag])
    more = env | {"EDGE_MODELS__MY_MODEL_A__MAX_BATCH_SIZE": "0"}
    assert settle(flags, more).config.models["my-model.a"].max_batch_size == rows


def test_who_can_be_reached_from_elsewhere_is_warned(env: dict[str, str]) -> None:
    assert "can be reached from other machines" in " ".join(settle(parse_flags(FLAGS), env).warnings)


def test_the_command_is_installed_beside_edge() -> None:
    (script,) = entry_points(group="console_scripts", name="tensorflow_model_server")
    assert script.load() is main


def test_no_toml_file_is_read(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("[models.other]\npath = '/o'\n")
    assert list(settle(parse_flags(FLAGS), env | {"EDGE_CONFIG": str(file)}).config.models) == ["default"]


def test_secrets_are_files_that_nobody_else_reads_and_that_are_replaced(env: dict[str, str], tmp_path: Path) -> None:
    for text in ("old", "new"):
        named = module._written(Carried(secrets={"grpc.tls_key": text}), env)
        file = Path(named["grpc.tls_key"])
        assert file.read_text() == text
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in file.parent.iterdir()] == ["tls_key.pem"]


def test_a_place_for_secrets_that_cannot_be_had_is_named(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match=r"what stands in ssl_config_file is put there"):
        module._written(Carried(secrets={"grpc.tls_key": "k"}), env)
