"""Layers → one checked Config.

Rule 1: a flag beats the environment, that beats the file, that beats the default. Rule 2: nothing is guessed; an
unknown key, a value out of range, a contradiction is refused, and all of them are told at once. Rule 3: no secret is
a value; there are only names of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from edge.config import keys, paths
from edge.config.keys import Key, show
from edge.config.layers import Setting, from_env, from_file, from_flags
from edge.config.sections import Admin, Advertise, Config, Grpc, Http, Log, Model, Mqtt, Repository, Server, is_loopback
from edge.domain.batch_sizes import check_batch_sizes
from edge.domain.layout import is_model_name

Values = Mapping[Key, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class ConfigError(Exception):
    """The configuration cannot be used. `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Resolved:
    """`origins` has every key, by its dotted name; `warnings` are for the person who starts the server."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def load_config(
    file: Path | None = None, env: Mapping[str, str] = NOTHING, flags: Mapping[str, object] = NOTHING
) -> Config:
    """The configuration alone. Raises ConfigError."""
    return resolve(file, env, flags).config


def resolve(
    file: Path | None = None, env: Mapping[str, str] = NOTHING, flags: Mapping[str, object] = NOTHING
) -> Resolved:
    """`file` must be there if it is named; `flags` are dotted keys to values, None for one not given.

    Raises ConfigError.
    """
    try:
        layers = from_file(file) if file is not None else []
    except (OSError, ValueError) as error:
        raise ConfigError([str(error) if isinstance(error, ValueError) else f"{file}: {error.strerror}"]) from None
    above = from_flags(flags)
    known = sorted(
        {setting.key[1] for setting in layers + above if setting.key[0] == "models" and len(setting.key) > 1}
    )
    from_environment, warnings = from_env(env, known)
    values, origins, problems = _judge(layers + from_environment + above)
    if problems:
        raise ConfigError(problems)
    config, problems = _build(values, env)
    problems += [_placed(problem, origins) for problem in _contradictions(config)]
    if problems:
        raise ConfigError(problems)
    return Resolved(config, _all_origins(config, origins), (*warnings, *_doubts(config)))


def _judge(settings: list[Setting]) -> tuple[dict[Key, Any], dict[Key, str], list[str]]:
    """Every setting checked, the ones that are overridden too: later ones win."""
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    problems: list[str] = []
    for setting in settings:
        key = setting.key
        if problem := _misplaced(setting):
            problems.append(f"{setting.origin}: {show(key)}: {problem}")
        elif len(key) == 2 and key[0] == "models":
            values[key] = None
        else:
            try:
                values[key] = keys.convert(key, setting.value, text=setting.text, base=setting.base)
                origins[key] = setting.origin
            except ValueError as error:
                problems.append(f"{setting.origin}: {show(key)}: {error}")
    return values, origins, problems


def _misplaced(setting: Setting) -> str:
    key = setting.key
    is_model_table = len(key) == 2 and key[0] == "models"
    if is_model_table and setting.value is None and is_model_name(key[1]):
        return ""
    if key[0] in keys.SECTIONS and (is_model_table or len(key) == 1) and setting.value is not None:
        return f"want a table [{show(key)}]"
    if key[0] in keys.SECTIONS and len(key) != (3 if key[0] == "models" else 2) and not is_model_table:
        return "no such key; a key is SECTION.KEY, or models.NAME.KEY"
    return keys.unknown(key)


def _section(values: Values, *prefix: str) -> dict[str, Any]:
    size = len(prefix)
    return {key[size]: value for key, value in values.items() if key[:size] == prefix and len(key) == size + 1}


def _build(values: Values, env: Mapping[str, str]) -> tuple[Config, list[str]]:
    server = Server(**{"state_dir": paths.default_state_dir(env)} | _section(values, "server"))
    admin = Admin(**{"uds": paths.default_admin_uds(env, server.state_dir)} | _section(values, "admin"))
    repository = Repository(**_section(values, "repository"))
    models: dict[str, Model] = {}
    problems = []
    for name in sorted({key[1] for key in values if key[0] == "models"}):
        table = _section(values, "models", name)
        if "path" not in table and repository.path is None:
            problems.append(f"models.{name}.path: want a path, got none; there is no repository.path to find it in")
        else:
            models[name] = Model(**{"path": (repository.path or Path()) / name} | table)
    config = Config(
        server=server,
        admin=admin,
        http=Http(**_section(values, "http")),
        grpc=Grpc(**_section(values, "grpc")),
        mqtt=Mqtt(**_section(values, "mqtt")),
        repository=repository,
        advertise=Advertise(**_section(values, "advertise")),
        log=Log(**_section(values, "log")),
        models=MappingProxyType(models),
    )
    return config, problems


def _contradictions(config: Config) -> list[str]:
    """What no key forbids by itself."""
    http, server = config.http, config.server
    found = []
    if http.host is None and http.uds is None and not config.grpc.wanted:
        found.append("http.host, http.uds: want at least one of them, got neither; there is nothing to listen on")
    if (http.tls_cert is None) != (http.tls_key is None):
        found.append("http.tls_cert, http.tls_key: want both or neither, got one")
    if http.max_body_bytes > server.max_inflight_body_bytes:
        found.append(
            f"http.max_body_bytes: want at most server.max_inflight_body_bytes ({server.max_inflight_body_bytes}), "
            f"got {http.max_body_bytes}"
        )
    if http.uds is not None and http.uds == config.admin.uds:
        found.append(f"http.uds, admin.uds: want two sockets, got {http.uds} for both")
    return found + _batching_contradictions(config) + _grpc_contradictions(config) + _mqtt_contradictions(config.mqtt)


def _batching_contradictions(config: Config) -> list[str]:
    found = []
    for name, model in config.models.items():
        try:
            check_batch_sizes(model.allowed_batch_sizes, model.max_batch_size)
        except ValueError as error:
            found.append(f"models.{name}.allowed_batch_sizes, models.{name}.max_batch_size: {error}")
    return found


def _grpc_contradictions(config: Config) -> list[str]:
    grpc, server = config.grpc, config.server
    found = []
    if (grpc.tls_cert is None) != (grpc.tls_key is None):
        found.append("grpc.tls_cert, grpc.tls_key: want both or neither, got one")
    if grpc.client_ca is not None and grpc.tls_cert is None:
        found.append("grpc.client_ca: want a grpc.tls_cert with it, got none")
    if grpc.wanted and grpc.max_message_bytes > server.max_inflight_body_bytes:
        found.append(
            f"grpc.max_message_bytes: want at most server.max_inflight_body_bytes ({server.max_inflight_body_bytes}), "
            f"got {grpc.max_message_bytes}"
        )
    for name, other in ("http.uds", config.http.uds), ("admin.uds", config.admin.uds):
        if grpc.uds is not None and grpc.uds == other:
            found.append(f"grpc.uds, {name}: want two sockets, got {other} for both")
    return found


def _mqtt_contradictions(mqtt: Mqtt) -> list[str]:
    found = []
    if (mqtt.cert_file is None) != (mqtt.key_file is None):
        found.append("mqtt.cert_file, mqtt.key_file: want both or neither, got one")
    if not mqtt.tls and (mqtt.ca_file is not None or mqtt.cert_file is not None):
        found.append("mqtt.ca_file, mqtt.cert_file: want mqtt.tls with them, got none")
    if mqtt.password_file is not None and not mqtt.username:
        found.append("mqtt.password_file: want a mqtt.username with it, got none")
    return found


def _placed(problem: str, origins: Mapping[Key, str]) -> str:
    """With who set the keys that it begins with, where anybody did."""
    said = [origins[key] for name in problem.partition(": ")[0].split(", ") if (key := keys.parse(name)) in origins]
    return f"{', '.join(said)}: {problem}" if said else problem


def _doubts(config: Config) -> list[str]:
    """What is allowed and probably not meant."""
    http = config.http
    found: list[str] = []
    if config.mqtt.password_file is not None and not config.mqtt.tls:
        found.append("mqtt.password_file without mqtt.tls: the password can be read on its way")
    if config.grpc.host is not None and not is_loopback(config.grpc.host):
        found += _reachable(f"grpc.host {config.grpc.host}", http.token_file, config.grpc.tls_cert)
    for name, model in config.models.items():
        if model.cache_bytes and model.pad_variable_length_inputs:
            found.append(f"models.{name}.cache_bytes: no answer is kept with pad_variable_length_inputs")
    if http.host is None and config.advertise.enabled:
        found.append("advertise.enabled: there is nothing to announce without http.host")
    if http.host is None or http.on_loopback:
        return found
    return found + _reachable(f"http.host {http.host}", http.token_file, http.tls_cert)


def _reachable(where: str, tokens: Path | None, certificate: Path | None) -> list[str]:
    if tokens is None:
        return [f"{where} can be reached from other machines and there is no http.token_file"]
    if certificate is None:
        return [f"{where} can be reached from other machines without TLS: the token can be read"]
    return []


def _all_origins(config: Config, given: Mapping[Key, str]) -> dict[str, str]:
    names: list[Key] = []
    for section in keys.SECTIONS:
        parents: list[Key] = [(section,)] if section != "models" else [("models", name) for name in config.models]
        names += [(*parent, field) for parent in parents for field in keys.fields(section)]
    return {show(key): given.get(key, "default") for key in names}


def plain(config: Config) -> dict[str, Any]:
    """Every key by its dotted name, in values that JSON and TOML have; None is an empty string."""
    tree = msgspec.to_builtins(config, enc_hook=_plain_value)
    flat: dict[str, Any] = {}
    for section in keys.SECTIONS:
        parts = (
            {(section,): tree[section]}
            if section != "models"
            else {("models", k): v for k, v in tree["models"].items()}
        )
        for parent, table in parts.items():
            flat |= {show((*parent, key)): "" if value is None else value for key, value in table.items()}
    return flat


def _plain_value(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else dict(value)


def missing_files(config: Config, origins: Mapping[str, str] = NOTHING) -> list[str]:
    """The files that must be there for the server to start and are not, with who named them. Looks at the disk."""
    http, mqtt = config.http, config.mqtt
    named = {"http.token_file": http.token_file, "http.tls_cert": http.tls_cert, "http.tls_key": http.tls_key}
    for key in ("tls_cert", "tls_key", "client_ca"):
        named[f"grpc.{key}"] = getattr(config.grpc, key)
    for key in ("password_file", "ca_file", "cert_file", "key_file"):
        named[f"mqtt.{key}"] = getattr(mqtt, key)
    absent = {key: path for key, path in named.items() if path and not path.is_file()}
    return [
        (f"{origins[key]}: " if key in origins else "") + f"{key}: want a file, got {path}"
        for key, path in absent.items()
    ]


def absent_models(config: Config) -> list[str]:
    """The paths of models where nothing is yet: no mistake, they are served when they come. Looks at the disk."""
    named = {f"models.{name}.path": model.path for name, model in config.models.items()}
    named |= {"repository.path": config.repository.path} if config.repository.path else {}
    return [f"{key}: nothing is at {path} yet" for key, path in named.items() if not path.exists()]
