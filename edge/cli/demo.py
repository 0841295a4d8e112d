"""`edge demo`: from nothing to a prediction in one command."""

from __future__ import annotations

import click

from edge.cli import exits


@click.command(
    short_help="Serve a small model and try it.",
    help="""\b
Examples:
  edge demo                          serve, predict, swap under load, and go on serving
  edge demo --once                   serve, predict, swap under load, and leave

Serve a small model and try it.""",
)
@click.option("--once", is_flag=True, help="Leave after the swap.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="8501 if it is free, else any.")
def demo(once: bool, port: int) -> None:
    from edge.demo import run_demo

    exits.leave(run_demo(once, port))
