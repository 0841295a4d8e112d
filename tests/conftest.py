"""Programs of the system, as fixtures: what asks for one has it installed before the first test, or is skipped.

And byte code is kept, whatever the environment says: else each of hundreds of processes compiles all that it imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import system

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or session.testsfailed:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    say = reporter.write_line if reporter is not None else print
    system.provide([name for name in system.PROGRAMS if name in wanted], say)


def _program(name: str) -> str:
    program = system.PROGRAMS[name]
    if program.path is None:
        pytest.skip(f"no {name} ({' or '.join(program.commands)}): nothing was tested where {program.why}")
    return program.path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    return _program("chromium")


@pytest.fixture(scope="session")
def cc() -> str:
    """The path of a C compiler."""
    return _program("cc")


@pytest.fixture(scope="session")
def fake_library(cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the Edge TPU's library, compiled."""
    library = tmp_path_factory.mktemp("delegate") / "libfake.so"
    source = Path(__file__).parent / "data" / "fake_delegate.c"
    subprocess.run([cc, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture(scope="session")
def openssl() -> str:
    """The path of the program `openssl`."""
    return _program("openssl")
