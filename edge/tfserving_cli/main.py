"""From the command line to a running server, top to bottom; the exit codes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from edge.config import ConfigError
from edge.config.tfserving.files import Refused, invalid
from edge.config.tfserving.flags import FLAGS, Given, parse_flags, usage
from edge.tfserving_cli.settle import Settled, settle
from edge.tfserving_cli.standin import Standin

log = logging.getLogger("tensorflow_model_server")

OK, FAILED = 0, 255
"""TensorFlow Serving returns -1, of which a shell sees the last eight bits."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and leave as TensorFlow Serving would."""
    given = parse_flags(sys.argv[1:] if arguments is None else arguments)
    for wrong in given.wrong:
        _say(wrong)
    if given.wrong or given.help:
        _print(usage())
        raise SystemExit(FAILED)
    if given.on("version"):
        _print(f"TensorFlow ModelServer: edge {_installed('edge-serving')}\n")
        _print(f"TensorFlow Library: {_installed('tensorflow')}\n")
        raise SystemExit(OK)
    for word in given.unknown:
        _print(f"unknown argument: {word}{_near(word)}\n")
    try:
        raise SystemExit(_serve(given))
    except (Refused, ConfigError) as error:
        if isinstance(error, Refused) and error.detail:
            _say(error.detail)
        why = error if isinstance(error, Refused) else invalid("; ".join(error.problems))
        _print(f"Failed to start server. Error: {why}\n")
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _serve(given: Given) -> int:
    """Raises Refused, ConfigError."""
    settled = settle(given, os.environ)
    from edge.telemetry import logs

    logs.set_up(settled.config.log.level, settled.config.log.format)
    for note in (*settled.notes, *settled.warnings):
        log.warning(note)
    # Nothing of what is imported from here on is garbage: the app turns the collector on when it has started.
    gc.disable()
    try:
        return _run(given, settled)
    finally:
        gc.enable()


def _run(given: Given, settled: Settled) -> int:
    from edge.app import serve

    standin = Standin(given, settled)
    return serve(settled.config, reread=standin.reread, conduct=standin)


def _near(word: str) -> str:
    import difflib  # for mistakes alone

    name = word.lstrip("-").partition("=")[0]
    near = difflib.get_close_matches(name, FLAGS, n=1, cutoff=0.7)
    return f" (did you mean --{near[0]}?)" if near and word.startswith("-") else ""


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _print(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
