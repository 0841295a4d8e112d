import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import ConfigError, Http, load_config, missing_files, plain, resolve
from edge.config.paths import default_admin_uds, default_config_file, default_state_dir
from edge.domain.models import ModelOptions, Swap
from edge.domain.policy import Specific
from edge.domain.routing import Routing


def test_the_defaults_suffice() -> None:
    config = load_config(None, {"HOME": "/home/me"})
    assert (config.http.host, config.http.port, config.http.max_body_bytes) == ("127.0.0.1", 8501, 64 * 1024 * 1024)
    assert config.server.state_dir == Path("/home/me/.local/state/edge")
    assert not config.models
    assert config.repository.path is None


def test_a_section_cannot_be_changed() -> None:
    config = load_config()
    with pytest.raises(AttributeError):
        config.http.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.models["x"] = None  # type: ignore[index]


def test_an_empty_word_turns_off_what_may_be_absent() -> None:
    config = load_config(None, {"EDGE_ADMIN__UDS": ""}, {"http.host": "", "http.uds": "/run/e.sock"})
    assert config.http.host is None
    assert config.admin.uds is None


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, False),
        ({"http.host": "localhost"}, False),
        ({"http.host": "0.0.0.0"}, True),
        ({"http.host": "192.0.2.1"}, True),
        ({"http.host": "0.0.0.0", "advertise.enabled": "false"}, False),
        ({"advertise.interfaces": "lo"}, True),
        ({"advertise.addresses": "192.0.2.1"}, True),
        ({"advertise.enabled": "true"}, True),
        ({"http.host": "0.0.0.0", "advertise.enabled": ""}, True),
    ],
)
def test_the_network_is_told_of_servers_that_it_can_reach_unless_somebody_says_otherwise(
    flags: dict[str, object], wanted: bool
) -> None:
    config = load_config(None, {}, flags)
    assert config.advertise.wanted(on_loopback=config.http.on_loopback) is wanted


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"http.host": ""}, "http.host, http.uds: want at least one of them"),
        ({"http.tls_cert": "c.pem"}, "http.tls_cert, http.tls_key: want both or neither"),
        ({"http.max_body_bytes": 300 << 20}, "http.max_body_bytes: want at most server.max_inflight_body_bytes"),
        ({"http.uds": "/e.sock", "admin.uds": "/e.sock"}, "want two sockets"),
        ({"mqtt.node": "Cam_1"}, "mqtt.node: want at most 63 of a-z 0-9 and inner hyphens"),
        ({"mqtt.prefix": "a/+"}, "mqtt.prefix: want one to four levels"),
        ({"mqtt.pools": "a/b"}, "mqtt.pools: want"),
        ({"mqtt.tls": "true", "mqtt.cert_file": "c"}, "mqtt.cert_file, mqtt.key_file: want both or neither"),
        ({"mqtt.ca_file": "c"}, "want mqtt.tls with them"),
        ({"mqtt.password_file": "p"}, "mqtt.password_file: want a mqtt.username with it"),
        ({"http.uds": "/" + "x" * 107}, "http.uds: want a socket's path of at most 107 bytes"),
        ({"models.m.device": "tpu"}, 'want cpu, edgetpu, edgetpu:N, usb:N, pci:N, gpu or gpu:N, got "tpu"'),
        ({"models.m.policy": "newest"}, "models.m.policy: want latest, latest:N, all or specific:V,V, got 'newest'"),
        ({"models.m.device": "cpu"}, "models.m.path: want a path, got none"),
        ({"models.m.path": ""}, 'models.m.path: want a path, got ""'),
        ({"http.keepalive_s": "nan"}, "http.keepalive_s: want a number of at least 0"),
        ({"http.keepalive_s": "inf"}, "http.keepalive_s: want a number of at least 0"),
        ({"server.max_inflight": True}, "server.max_inflight: want an integer of at least 1"),
        ({"admin.mode": "0999"}, "admin.mode: want an octal mode"),
        ({"admin.uds": "a\0b"}, "admin.uds: want a path"),
        ({"advertise.node": "Cam_1"}, "advertise.node: want at most 63 of a-z 0-9 and inner hyphens"),
        ({"advertise.addresses": "here"}, "advertise.addresses: want IP addresses, got 'here'"),
        ({"advertise.enabled": "perhaps"}, "advertise.enabled: want true or false, or an empty string for none"),
        ({"models.path": "x"}, "not a model's name"),
        ({"http": "x"}, "want a table [http]"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, {}, flags)
    assert problem in str(raised.value)


def test_a_model_becomes_what_the_domain_calls_it() -> None:
    flags = {
        "models.d.e.path": "/m/d",
        "models.d.e.policy": "specific:3,5",
        "models.d.e.swap": "replace",
        "models.d.e.device": "usb:1",
        "models.d.e.max_run_s": "2.5",
        "models.d.e.dequantize": "true",
        "models.d.e.lane": "inline",
        "models.d.e.cpu_twin": "/m/d.tflite",
    }
    model = load_config(None, {}, flags).models["d.e"]
    assert model.version_policy == Specific((3, 5))
    assert model.swap is Swap.REPLACE
    twin = Path("/m/d.tflite")
    assert model.options == ModelOptions("usb:1", dequantize=True, lane="inline", max_run_s=2.5, cpu_twin=twin)


def test_the_defaults_of_a_model_are_the_domains() -> None:
    assert load_config(None, {}, {"models.m.path": "m"}).models["m"].options == ModelOptions()


def test_a_model_without_a_path_is_looked_for_in_the_repository() -> None:
    config = load_config(None, {}, {"repository.path": "/models", "models.m.num_threads": 2})
    assert config.models["m"].path == Path("/models/m")


@pytest.mark.parametrize(
    ("flags", "warnings"),
    [
        ({"http.host": "127.0.0.2"}, 0),
        ({"http.host": "::1"}, 0),
        ({"http.host": "localhost"}, 0),
        ({"http.host": "", "http.uds": "/e.sock"}, 0),
        ({"http.host": "0.0.0.0"}, 1),
        ({"http.host": "::"}, 1),
        ({"http.host": "box.lan"}, 1),
        ({"http.host": "0.0.0.0", "http.token_file": "t"}, 1),
        ({"http.host": "0.0.0.0", "http.token_file": "t", "http.tls_cert": "c", "http.tls_key": "k"}, 0),
    ],
)
def test_a_port_that_others_can_reach_unguarded_is_warned_of(flags: dict[str, object], warnings: int) -> None:
    found = resolve(None, {}, flags).warnings
    assert len(found) == warnings
    assert all("can be reached from other machines" in warning for warning in found)


def test_who_wants_answers_kept_and_inputs_lengthened_is_told_that_none_is_kept() -> None:
    flags = {"models.m.path": "m", "models.m.cache_bytes": 1000}
    assert resolve(None, {}, flags).warnings == ()
    found = resolve(None, {}, flags | {"models.m.pad_variable_length_inputs": True}).warnings
    assert found == ("models.m.cache_bytes: no answer is kept with pad_variable_length_inputs",)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", False),
        ("localhost", True),
        ("box.localhost", True),
        ("box.lan", False),
        (None, False),
    ],
)
def test_a_port_of_this_machine_alone_is_told_by_its_host(host: str | None, local: bool) -> None:
    assert Http(host=host).on_loopback is local


def test_files_that_the_server_needs_and_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    flags = {"http.token_file": tmp_path / "token", "http.tls_cert": tmp_path / "c", "http.tls_key": tmp_path}
    missing = missing_files(load_config(None, {}, flags))
    assert missing == [f"http.tls_cert: want a file, got {tmp_path}/c", f"http.tls_key: want a file, got {tmp_path}"]


def test_every_key_has_a_plain_value_and_an_origin() -> None:
    resolved = resolve(None, {}, {"models.m.path": "/m", "models.m.labels": "stable=1"})
    values = plain(resolved.config)
    assert values.keys() == resolved.origins.keys()
    assert values["models.m.labels"] == {"stable": 1}
    assert values["http.uds"] == ""


def test_state_lies_where_systemd_says_then_where_xdg_says() -> None:
    assert default_state_dir({"STATE_DIRECTORY": "/var/lib/edge:/x", "XDG_STATE_HOME": "/s"}) == Path("/var/lib/edge")
    assert default_state_dir({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/edge")
    assert default_state_dir({}) == Path("/var/lib/edge")


def test_the_admin_socket_lies_where_it_can_be_made(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert default_admin_uds(env, Path("/s"), tmp_path) == tmp_path / "admin.sock"
    assert default_admin_uds(env, Path("/s"), tmp_path / "none") == Path("/run/user/7/edge/admin.sock")
    assert default_admin_uds({}, Path("/s"), tmp_path / "none") == Path("/s/admin.sock")
    assert default_admin_uds({}, Path("/" + "s" * 120), tmp_path / "none") is None


def test_one_file_is_read_and_the_nearest_wins(tmp_path: Path) -> None:
    system, mine = tmp_path / "edge.toml", tmp_path / "home/edge/edge.toml"
    env = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert default_config_file(env, system) is None
    system.touch()
    assert default_config_file(env, system) == system
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert default_config_file(env, system) == mine
    assert default_config_file(env | {"EDGE_CONFIG": "/given"}, system) == Path("/given")


def test_reading_the_configuration_needs_no_numpy() -> None:
    code = "import sys, edge.config; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"weights": "stable=-1"},
        {"weights": "stable=0"},
        {"weights": "stable=nan"},
        {"weights": "stable"},
        {"sticky_header": "two words"},
        {"shadow_share": "1.5"},
        {"shadow_atol": "-1"},
        {"shadow_rtol": "nan"},
    ],
    ids=str,
)
def test_weights_and_shadows_that_cannot_be_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=rf"models\.m\.{next(iter(bad))}: want"):
        load_config(flags={"models.m.path": "/m"} | {f"models.m.{key}": value for key, value in bad.items()})


def test_weights_may_be_set_by_a_variable_and_what_is_set_is_what_the_domain_gets() -> None:
    environment = {
        "EDGE_MODELS__M__PATH": "/m",
        "EDGE_MODELS__M__WEIGHTS": "stable=90,7=10",
        "EDGE_MODELS__M__STICKY_HEADER": "X-Edge-Key",
        "EDGE_MODELS__M__SHADOW": "7",
        "EDGE_MODELS__M__SHADOW_SHARE": "0.5",
        "EDGE_MODELS__M__SHADOW_ATOL": "0.1",
        "EDGE_MODELS__M__SHADOW_RTOL": "0.2",
    }
    model = load_config(env=environment).models["m"]
    assert model.routing == Routing({"stable": 90.0, "7": 10.0}, "X-Edge-Key", "7", 0.5, 0.1, 0.2)
    assert model.routed
    assert not model.unrouted.routed
