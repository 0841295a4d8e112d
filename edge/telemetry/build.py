"""What this program is, for `edge version`, the protocols and the metrics."""

from __future__ import annotations

import edge


def version() -> str:
    """Not from the installed package's metadata: to read those imports a parser of e-mail, on every start."""
    return edge.__version__
