"""The example and the guide of the client library, run as they stand against a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS
from tests.waiting import until_blocking

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "discovery.md").read_text()
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```$", GUIDE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("examples")
    shutil.copytree(DIGITS / "2", path / "models" / "digits" / "2")
    options = ("--uds", path / "edge.sock", "--set", "advertise.interfaces=lo")
    with serving(path, path / "models", *options) as running:
        yield running


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["url", "socket", "discovery"])
def test_the_example_asks_in_every_way(server: Running, how: str) -> None:
    if how == "discovery":
        until_blocking(lambda: "announced as" in server.log.read_text(), server.log.read_text)
    arguments = {
        "url": (server.url,),
        "socket": (f"unix:{server.admin.parent / 'edge.sock'}",),
        "discovery": ("--discover", "--interface", "lo"),
    }[how]
    said = run("examples/ask.py", *arguments)
    (right,) = re.findall(r"version \d is right about (\d+)%", said)
    assert int(right) > 80
    assert "as a picture: zero" in said
    assert "Invalid: " in said
    assert "100 more" in said


def test_the_guide_does_what_it_shows(server: Running) -> None:
    first, second = BLOCKS
    assert run("-c", first.replace("localhost:8501", f"localhost:{server.port}")).startswith("2 [")
    until_blocking(lambda: "announced as" in server.log.read_text(), server.log.read_text)
    here = second.replace("timeout_s=3.0", 'timeout_s=1.5, interfaces=["lo"]').replace(
        'model="digits"', 'model="digits", interfaces=["lo"]'
    )
    assert here.count("interfaces") == 2
    assert "Health(live=True, ready=True)" in run("-c", here)
