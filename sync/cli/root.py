"""Commands by their names, each imported when it is called; errors → exit codes.

Rule: a command that wants a package that is not installed is in the list all the same, and says when it is called what brings it: a
device has the agent, and none of what an operator signs with.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from sync.domain.errors import (
    CheckFailed,
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
    "config": "sync.cli.config",
    "refresh": "sync.cli.refresh",
    "verify": "sync.cli.verify",
    "mirror": "sync.cli.mirror",
    "gc": "sync.cli.gc",
    "collect": "sync.cli.collect",
    "completion": "sync.cli.completion",
}
OWN = ("sync", "edge")


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        from sync.cli.examples import with_examples

        try:
            command = getattr(importlib.import_module(GROUPS[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in OWN:
                raise
            return _wanting(name, error.name or "a package")
        return with_examples(command, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in GROUPS:
            import difflib  # for mistakes alone: starting need not wait for it

            near = difflib.get_close_matches(args[0], GROUPS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(GROUPS)}."
            raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _wanting(name: str, module: str) -> click.Command:
    """Takes whatever it is given, --help too, and says what is missing."""

    def refuse() -> None:
        raise OperatorError(
            f"{name}: wants the package {module.partition('.')[0]}, as all that an operator does with a store: "
            f"pip install 'edge-serving[fleet]', or in its sources uv run --extra fleet edge-sync {name}"
        )

    return click.Command(
        name,
        callback=refuse,
        short_help="Not installed: an operator's; `edge-serving[fleet]` brings it.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
    )


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"edge-sync {version('edge-serving')}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Say which.")
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
    if isinstance(error, CheckFailed):
        return FAILED_CHECK
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
