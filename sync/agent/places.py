"""Where the agent keeps what it keeps, and how much of the disk it leaves to others. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sync.domain.digests import Digest, hex_of

MIN_FREE_BYTES = 64 << 20
MIN_FREE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Reserve:
    """What is always left free of a disk: so many bytes, or that share of it, whichever is more."""

    min_bytes: int = MIN_FREE_BYTES
    min_share: float = MIN_FREE_SHARE

    def of(self, total: int) -> int:
        """Bytes, of a disk that has `total`."""
        return max(self.min_bytes, int(total * self.min_share))


@dataclass(frozen=True, slots=True)
class Places:
    """All on one file system: links are made between them."""

    state_dir: Path
    models_dir: Path

    @property
    def blobs(self) -> Path:
        return self.state_dir / "blobs"

    @property
    def tmp(self) -> Path:
        return self.state_dir / "tmp"

    @property
    def journal(self) -> Path:
        return self.state_dir / "state.json"

    @property
    def situation(self) -> Path:
        return self.state_dir / "situation.json"

    @property
    def floor(self) -> Path:
        return self.state_dir / "floor.json"

    @property
    def outbox(self) -> Path:
        return self.state_dir / "outbox"

    def blob(self, digest: Digest) -> Path:
        return self.blobs / hex_of(digest)

    def version(self, model: str, version: int) -> Path:
        return self.models_dir / model / str(version)
