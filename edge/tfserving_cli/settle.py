"""Flags, their files and the environment → one Config.

Rule: a flag beats the environment, and that what TensorFlow Serving does unasked. No TOML file is read: two descriptions of
the same models would contradict each other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from edge.config import Config, ConfigError, missing_files, resolve
from edge.config.layers import PREFIX, as_variable
from edge.config.paths import default_state_dir
from edge.config.tfserving.carry import Carried, carry, read_files
from edge.config.tfserving.files import invalid
from edge.config.tfserving.flags import Given
from edge.config.tfserving.models import ModelEntry

SECRETS = "tfserving"
"""The directory below `server.state_dir` for what stood in an ssl_config_file, readable by nobody else."""


@dataclass(frozen=True, slots=True)
class Settled:
    """`notes`: what could not be carried. `warnings`: what is allowed and probably not meant. `grpc`: where it listens, in
    TensorFlow Serving's words. `files`: what the files said, by flag."""

    config: Config
    models: tuple[ModelEntry, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    grpc: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def settle(given: Given, env: Mapping[str, str], *, again: bool = False) -> Settled:
    """again: variables of models that there are no more are passed over. Blocks. Raises Refused, ConfigError."""
    if not given.text("model_base_path") and not given.text("model_config_file"):
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    files = read_files(given)
    carried = _carry(given, files)
    settings = _settings(carried, env) | _written(carried, env)
    resolved = resolve(None, _of(carried.models, env) if again else env, settings)
    if missing := missing_files(resolved.config, resolved.origins):
        raise ConfigError(missing)
    grpc = [f"0.0.0.0:{settings['grpc.port']}"] if "grpc.port" in settings else []
    grpc += [f"UNIX socket {settings['grpc.uds']}"] if "grpc.uds" in settings else []
    models, notes = tuple(carried.models), tuple(carried.notes)
    return Settled(resolved.config, models, notes, resolved.warnings, tuple(grpc), files)


def with_models(settled: Settled, given: Given, env: Mapping[str, str], config: Mapping[str, Any]) -> Settled:
    """`settled` with the models of another ModelServerConfig; no file is read. Raises Refused, ConfigError."""
    files = {**settled.files, "model_config_file": config}
    carried = _carry(given, files)
    models = resolve(None, _of(carried.models, env), _settings(carried, env)).config.models
    return replace(
        settled,
        config=msgspec.structs.replace(settled.config, models=models),
        models=tuple(carried.models),
        notes=tuple(carried.notes),
        files=files,
    )


def _carry(given: Given, files: Mapping[str, Mapping[str, Any]]) -> Carried:
    """Raises Refused."""
    return carry(given, files, grpc=has_grpc(), tensorflow=find_spec("tensorflow") is not None)


def _settings(carried: Carried, env: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, value in carried.defaults.items() if _variable(key) not in env} | carried.settings


def _of(models: Iterable[ModelEntry], env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables of other models."""
    section = f"{PREFIX}MODELS__"
    named = {as_variable(model.name) for model in models}

    def meant(name: str) -> bool:
        return not name.startswith(section) or as_variable(name[len(section) :].rpartition("__")[0]) in named

    return {name: value for name, value in env.items() if meant(name)}


def has_grpc() -> bool:
    """Whether this installation can serve it."""
    return find_spec("grpc") is not None


def _variable(key: str) -> str:
    """As edge.config.layers reads them: what no name of a variable can hold is an underscore."""
    section, _, rest = key.partition(".")
    model, _, name = rest.rpartition(".")
    return PREFIX + "__".join(as_variable(part) for part in (section, model, name) if part)


def _written(carried: Carried, env: Mapping[str, str]) -> dict[str, str]:
    """Files with the secrets, for the settings that name one. Raises ConfigError."""
    if not carried.secrets:
        return {}
    named = env.get(_variable("server.state_dir"))
    folder = (Path(named).expanduser() if named else default_state_dir(env)) / SECRETS
    found = {}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for key, text in carried.secrets.items():
            found[key] = str(_write(folder / f"{key.rpartition('.')[2]}.pem", text))
    except OSError as error:
        raise ConfigError(
            [f"{error.filename}: {error.strerror}; what stands in ssl_config_file is put there"]
        ) from None
    return found


def _write(path: Path, text: str) -> Path:
    """In one piece, and readable by nobody else at any time. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
    return path
