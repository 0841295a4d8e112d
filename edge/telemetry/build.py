"""What this program is, for `edge version` and the metrics."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version that was installed; `unknown` in a tree that never was."""
    try:
        return metadata.version("edge-serving")
    except metadata.PackageNotFoundError:
        return "unknown"
