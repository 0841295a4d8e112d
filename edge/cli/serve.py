"""`edge serve`: flags over environment over file over defaults, and then the app."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import exits
from edge.cli.config import read, settle, unusable
from edge.cli.options import PATH
from edge.cli.target import named_target, target

if TYPE_CHECKING:
    from edge.config import Config
    from edge.frontends.addresses import Addresses

log = logging.getLogger("edge")

FLAGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--host", "http.host", str, "Address to listen on."),
    ("--port", "http.port", int, "Port to listen on; 0 for any free one."),
    ("--uds", "http.uds", PATH, "Unix socket to listen on, too."),
    ("--state-dir", "server.state_dir", PATH, "Where the server remembers what it must."),
    ("--token-file", "http.token_file", PATH, "Ask clients for one of the tokens in this file."),
    ("--tls-cert", "http.tls_cert", PATH, "Certificate chain, PEM."),
    ("--tls-key", "http.tls_key", PATH, "Private key, PEM."),
    ("--log-level", "log.level", click.Choice(["debug", "info", "warning", "error"]), "How much to say."),
    ("--log-format", "log.format", click.Choice(["text", "json"]), "How to say it."),
)
SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("model-control", "http.model_control", "Let clients load and unload models."),
    ("access-log", "http.access_log", "Log every request."),
)


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    for switch, key, text in reversed(SWITCHES):
        command = click.option(f"--{switch}/--no-{switch}", key.replace(".", "__"), default=None, help=text)(command)
    for flag, key, kind, text in reversed(FLAGS):
        command = click.option(flag, key.replace(".", "__"), type=kind, help=text)(command)
    return command


@click.command(
    short_help="Serve models over HTTP.",
    help="""\b
Examples:
  edge serve mobilenet_v2.tflite                     one file, as mobilenet_v2
  edge serve models/                                 every models/NAME/VERSION/
  edge serve --model det=det.tflite --model ocr=ocr/  several, by name
  edge serve --config /etc/edge/edge.toml            what the file says
  edge serve m.tflite --set server.drain_s=30        any setting of docs/configuration.md

Serve models over HTTP. MODEL is a .tflite file, a directory NAME/VERSION/, a model's directory of versions, or
a directory of models. Without --config, the first of $EDGE_CONFIG, ~/.config/edge/edge.toml and
/etc/edge/edge.toml is read.""",
)
@click.argument("model", type=PATH, required=False)
@click.option("--model", "named", multiple=True, metavar="NAME=PATH", help="Serve PATH as NAME. May be repeated.")
@click.option("--config", "file", type=PATH, help="Settings, in TOML.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting. May be repeated.")
@_with_flags
def serve(
    model: Path | None, named: tuple[str, ...], file: Path | None, settings: tuple[str, ...], **given: object
) -> None:
    flags = _settings(settings)
    flags |= {key.replace("__", "."): value for key, value in given.items() if value is not None}
    for each in ([target(model)] if model else []) + [named_target(text) for text in named]:
        flags |= each
    resolved = settle(file, flags)
    config = resolved.config
    if _is_empty(config):
        raise click.UsageError("nothing to serve: name a MODEL, or a configuration with [models] or [repository]")
    from edge.config import missing_files

    if missing := missing_files(config, resolved.origins):
        raise unusable(missing)
    from edge.telemetry import logs

    logs.set_up(config.log.level, config.log.format)
    for warning in resolved.warnings:
        log.warning(warning)
    exits.leave(_run(config, lambda: _reread(file, flags)))


def _run(config: Config, reread: Callable[[], Config]) -> int:
    def announce(at: Addresses) -> None:
        with contextlib.suppress(OSError):  # a full disk for what is said is no reason not to serve
            click.echo(f"serving at {at.url or at.uds}", err=True)

    # Nothing of what is imported from here on is garbage: the app turns the collector on when it has started.
    gc.disable()
    try:
        from edge.app import serve as run

        return run(config, announce=announce, reread=reread)
    finally:
        gc.enable()


def _reread(file: Path | None, flags: dict[str, object]) -> Config:
    """What the file says now. Raises ConfigError, also where it leaves nothing to serve: no one means that."""
    from edge.config import ConfigError

    config = read(file, flags).config
    if _is_empty(config):
        raise ConfigError(["nothing to serve: want [models] or [repository]"])
    return config


def _is_empty(config: Config) -> bool:
    return not config.models and config.repository.path is None


def _settings(settings: tuple[str, ...]) -> dict[str, object]:
    flags: dict[str, object] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise click.UsageError(f"--set: want SECTION.KEY=VALUE, got {text!r}")
        flags[key.strip()] = value
    return flags
