"""`edge version`: what is installed, for reports of trouble."""

from __future__ import annotations

import click

from edge.cli.options import as_json, print_json

LIBRARIES = ("ai-edge-litert", "tflite-runtime", "tensorflow", "numpy", "aiohttp", "uvloop")


@click.command(help="Say which version this is, and of what it consists.")
@as_json
def version(as_json: bool) -> None:
    import platform
    from importlib import metadata

    from edge.telemetry import build

    parts = {"edge": build.version(), "python": platform.python_version(), "machine": platform.machine()}
    for library in LIBRARIES:
        try:
            parts[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    if as_json:
        print_json(parts)
    else:
        click.echo("\n".join(f"{name} {what}" for name, what in parts.items()))
