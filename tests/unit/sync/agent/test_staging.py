"""Version directories: they appear whole, and whole they go."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sync.agent.files import OsFiles
from sync.agent.places import Places
from sync.agent.staging import Staging
from sync.domain.errors import DiskError


class Interrupted(OsFiles):
    """Dies when it has removed the first file of a directory."""

    def remove(self, path: Path) -> None:
        if path.is_dir():
            next(each for each in sorted(path.rglob("*")) if each.is_file()).unlink()
            raise OSError(errno.EIO, "Input/output error", str(path))
        super().remove(path)


def test_a_version_that_is_no_longer_needed_is_never_half_there(tmp_path: Path) -> None:
    places = Places(tmp_path / "state", tmp_path / "models")
    for version in (1, 2):
        (places.version("m", version) / "variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/data"):
            (places.version("m", version) / name).write_bytes(b"x")
    nobody: None = None
    with pytest.raises(DiskError):
        Staging(Interrupted(), places, nobody, nobody).collect(lambda: {"m": []})  # type: ignore[arg-type]
    for version in (1, 2):
        directory = places.version("m", version)
        assert not directory.exists() or len([each for each in directory.rglob("*") if each.is_file()]) == 2
    assert (places.models_dir / "m" / ".1.gone").is_dir(), "what is left of the first is garbage"
    Staging(OsFiles(), places, nobody, nobody).collect(lambda: {"m": []})  # type: ignore[arg-type]
    assert list((places.models_dir / "m").iterdir()) == []
