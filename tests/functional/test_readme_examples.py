"""The examples of the README, typed as they stand against the model of the demo; only the port is another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.server import Running, serving
from tests.functional.zoo import DIGITS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(sh|python)\n(.*?)^```$", README)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("readme")
    shutil.copytree(DIGITS / "2", path / "models" / "digits" / "2")
    with serving(path, path / "models") as running:
        yield running


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[code.splitlines()[0][:40] for _, code in BLOCKS])
def test_an_example_does_what_it_shows(server: Running, language: str, code: str) -> None:
    assert "localhost:8501" in code
    code = code.replace("localhost:8501", f"localhost:{server.port}")
    if language == "python" and "tritonclient" in code:
        pytest.importorskip("tritonclient.http")
    command = (
        [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code.replace("curl ", "curl -fsS ")]
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if "classification" in code:
        (shown,) = re.findall(r"(?m)^    (\{\"model_name\":.*\})$", README)
        assert json.loads(done.stdout) == json.loads(shown)
    if "says" in code:
        says, truth = (re.findall(r"\d", part) for part in done.stdout.split("is"))
        assert says == truth


def test_there_are_examples_of_every_protocol() -> None:
    text = "".join(code for _, code in BLOCKS)
    assert all(word in text for word in ("/v1/models", "/v2/models", "tritonclient"))
