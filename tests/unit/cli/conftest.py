from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.cli import main
from tests.unit.cli.far_side import FarSide, far_side

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(("EDGE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_CONFIG", "/dev/null")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line: the exit code, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(arg) for arg in args])
        code = left.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def far() -> Iterator[FarSide]:
    with far_side() as far:
        yield far
