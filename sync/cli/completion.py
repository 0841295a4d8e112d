"""`edge-sync completion`: what a shell must read to complete the command; and the names of models, for it.

Rule: nothing is asked of a network: names come from a store that is a directory here, or there are none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from edge.domain.layout import is_model_name

SHELLS = ("bash", "zsh", "fish")
MAX_NAMES = 1000


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what a shell reads to complete commands, options, files, and names of models in a store that is a directory."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(hushed(found(ctx.find_root().command, {}, "edge-sync", "_EDGE_SYNC_COMPLETE").source(), "edge-sync"))


def hushed(source: str, program: str) -> str:
    """The same script, which says nothing where the program cannot be run: a Tab is no place for a traceback."""
    call = re.compile(rf"(?<=_complete )(\$1|{program})\)|(?<=-t\) ){program}\)")
    return call.sub(lambda found: f"{found[0][:-1]} 2>/dev/null)", source)


def model_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    store = ctx.params.get("store") or os.environ.get("EDGE_SYNC_STORE") or ""
    try:
        found = [each.name for each in Path(store, "targets", "models").iterdir() if each.is_dir()] if store else []
    except (OSError, ValueError):
        return []
    return sorted(name for name in found if is_model_name(name) and name.startswith(incomplete))[:MAX_NAMES]
