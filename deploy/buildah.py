"""`buildah`, with all that it keeps in one directory: no daemon, and nothing of what the system's own has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TAKES_POLICY = ("bud", "commit", "from", "push")


class Buildah:
    """Each call raises CalledProcessError."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        policy = place / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._policy = ("--signature-policy", str(policy))
        self._own = ("--root", str(place / "storage"), "--runroot", str(place / "run"), "--storage-driver", "vfs")

    def __call__(self, verb: str, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        policy = self._policy if verb in TAKES_POLICY else ()
        return subprocess.run(["buildah", *self._own, verb, *policy, *words], **{"check": True, "text": True} | how)

    def said(self, verb: str, *words: str) -> str:
        return str(self(verb, *words, stdout=subprocess.PIPE).stdout).strip()

    def has(self, image: str) -> bool:
        return self("inspect", "--type", "image", image, check=False, capture_output=True).returncode == 0

    def config(self, image: str) -> dict[str, Any]:
        """What Docker calls its `Config`."""
        found: dict[str, Any] = json.loads(self.said("inspect", "--type", "image", image))["Docker"]["config"]
        return found

    def megabytes(self, image: str) -> float:
        """Of its files; one with several names counts once."""
        with self.mounted(image) as root:
            found = (each.lstat() for each in root.rglob("*"))
            return sum({each.st_ino: each.st_size for each in found}.values()) / 1e6

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Its files, for as long as the block lasts."""
        container = self.said("from", "--arch", "arm64", "--pull-never", image)
        try:
            yield Path(self.said("mount", container))
        finally:
            self("rm", container, stdout=subprocess.DEVNULL)
