"""The command `edge`: a table of sub-commands, each imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from edge.cli import exits
from edge.cli.stack import on_one_chunk

COMMANDS = {
    "serve": "edge.cli.serve:serve",
    "demo": "edge.cli.demo:demo",
    "check": "edge.cli.check:check",
    "models": "edge.cli.models:models",
    "predict": "edge.cli.predict:predict",
    "health": "edge.cli.health:health",
    "discover": "edge.cli.discover:discover",
    "mqtt": "edge.cli.mqtt:mqtt",
    "doctor": "edge.cli.doctor:doctor",
    "config": "edge.cli.config:config",
    "import-config": "edge.cli.import_config:import_config",
    "version": "edge.cli.version:version",
    "completion": "edge.cli.completion:completion",
}

EXAMPLES = """\b
Examples:
  edge serve mobilenet_v2.tflite        serve one file on port 8501
  edge serve models/                    serve every models/NAME/VERSION/
  edge demo                             serve a small model and try it
  edge predict mobilenet_v2 cat.jpg     what is in the picture
  edge models                           what is being served
  edge discover                         who serves on the local network
  edge config show --origin             every setting, and who set it
  edge doctor                           what this device lacks, and what to do

\b
Exit codes: 0 ok, 1 failure, 2 wrong arguments or configuration, 3 not found,
4 server unreachable, 5 verification failed, 130 interrupted.
"""


class LazyGroup(click.Group):
    """Knows its commands by name; asks back when one is nearly right."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib  # for mistakes alone: starting need not wait for it

            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}."
            raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from edge.telemetry import build

        click.echo(f"edge {build.version()}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    help=f"{EXAMPLES}\nA small model server for devices.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Say which.")
def cli() -> None:
    pass


@on_one_chunk
def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and leave with one of `edge.cli.exits`."""
    try:
        code = cli.main(args, prog_name="edge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.code if isinstance(error, exits.Failure) else error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(exits.INTERRUPTED) from None
    raise SystemExit(code if isinstance(code, int) else exits.OK)
