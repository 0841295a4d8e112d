"""`edge completion`: what a shell must read to complete the command; and the names of models, for it.

Rule: a Tab waits for no longer than WITHIN_S, and says nothing that is wrong: where nobody tells names, there are none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
WITHIN_S = 0.5
MAX_NAMES = 1000


@click.command(
    short_help="Print what a shell reads to complete `edge`.",
    help="""\b
Examples:
  edge completion bash > ~/.local/share/bash-completion/completions/edge
  edge completion zsh > ~/.zfunc/_edge             in a directory of $fpath, before compinit
  edge completion fish > ~/.config/fish/completions/edge.fish
  source <(edge completion bash)                   for this shell alone

Print what a shell reads to complete commands, options, files, and the names of the models that a running server serves.""",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(hushed(found(ctx.find_root().command, {}, "edge", "_EDGE_COMPLETE").source(), "edge"))


def hushed(source: str, program: str) -> str:
    """The same script, which says nothing where the program cannot be run: a Tab is no place for a traceback."""
    call = re.compile(rf"(?<=_complete )(\$1|{program})\)|(?<=-t\) ){program}\)")
    return call.sub(lambda found: f"{found[0][:-1]} 2>/dev/null)", source)


def model_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Of the server that the command would ask; where none answers, of the configuration and its repository."""
    known = _served(ctx)
    return sorted(name for name in (_configured() if known is None else known) if name.startswith(incomplete))[
        :MAX_NAMES
    ]


def _served(ctx: click.Context) -> set[str] | None:
    from edge.cli.ask import DEFAULT_URL, Server
    from edge.cli.exits import Failure

    given = ctx.params
    url = given.get("url") or os.environ.get("EDGE_URL") or DEFAULT_URL
    token = given.get("token_file") or os.environ.get("EDGE_TOKEN_FILE")
    address = url if "://" in url else f"http://{url}"
    server = Server(address, given.get("uds"), Path(token) if token else None, given.get("ca_file"), WITHIN_S)
    try:
        rows = server.post_json("/v2/repository/index").or_fail().json()
        return {str(row["name"]) for row in rows}
    except (Failure, KeyError, TypeError):
        return None


def _configured() -> set[str]:
    from edge.cli.config import read
    from edge.config import ConfigError
    from edge.domain.layout import is_model_name

    try:
        config = read(None, {}).config
        there = config.repository.path
        found = {each.name for each in there.iterdir() if each.is_dir()} if there is not None else set()
    except (ConfigError, OSError):
        return set()
    return {name for name in found | set(config.models) if is_model_name(name)}
