"""Where the server listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """`url` is empty without a TCP port for HTTP; `grpc` is for people."""

    url: str
    uds: Path | None
    admin: Path | None
    grpc: Sequence[str] = ()

    @property
    def shown(self) -> str:
        """All of them but the admin socket."""
        http = [self.url, str(self.uds or "")]
        return ", ".join([*filter(None, http), *(f"{each} (gRPC)" for each in self.grpc)])
