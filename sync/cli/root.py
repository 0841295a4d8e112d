"""Commands by their names, each imported when it is called; errors → exit codes."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from sync.domain.errors import (
    DocumentError,
    HashMismatch,
    Missing,
    OperatorError,
    ServerAbsent,
    SyncError,
    TrustError,
    Unreachable,
)

T = TypeVar("T")
NOT_FOUND, UNREACHABLE, FAILED_CHECK = 3, 4, 5
GROUPS = {
    "keys": "sync.cli.keys",
    "publish": "sync.cli.publish",
    "withdraw": "sync.cli.withdraw",
    "rollout": "sync.cli.rollout",
    "agent": "sync.cli.agent",
    "refresh": "sync.cli.refresh",
    "verify": "sync.cli.verify",
    "mirror": "sync.cli.mirror",
    "gc": "sync.cli.gc",
    "collect": "sync.cli.collect",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        from sync.cli.examples import with_examples

        return with_examples(getattr(importlib.import_module(GROUPS[name]), name), name)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """\b
    Examples:
      export EDGE_SYNC_STORE=/srv/models EDGE_SYNC_KEYS=~/edge-keys
      edge-sync keys init --root root.json
      edge-sync publish models/detector/17 --name detector --version 17
      edge-sync rollout start detector 17 --group line-3 --percent 10
      edge-sync verify https://models.example/ --root root.json
      edge-sync agent run --config /etc/edge/edge-sync.toml
      edge-sync agent status --config /etc/edge/edge-sync.toml

    \b
    Exit codes: 0 ok, 1 failure, 2 wrong arguments or configuration, 3 not found,
    4 unreachable, 5 verification failed, 130 interrupted.

    Signed model versions: the store's commands, and the agent's.
    """


def run() -> int:
    """The exit code."""
    try:
        return int(cli.main(prog_name="edge-sync", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SyncError as error:
        print(f"edge-sync: {error.message}", file=sys.stderr)
        return exit_code(error)


def exit_code(error: SyncError) -> int:
    if isinstance(error, OperatorError):
        return 2
    if isinstance(error, Missing):
        return NOT_FOUND
    if isinstance(error, Unreachable | ServerAbsent):
        return UNREACHABLE
    if isinstance(error, TrustError | HashMismatch | DocumentError):
        return FAILED_CHECK
    return 1


def wait(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
