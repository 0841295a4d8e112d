"""The server and the agent as an arm64 device runs them: its interpreter, its wheels, its kernels, emulated by qemu."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sync.domain.rollout import Probation
from tests import on_arm64
from tests.functional.device import MODEL, Operator
from tests.functional.server import Running, serving
from tests.on_arm64 import ROOT, UNAVAILABLE, Unavailable, environment
from tests.waiting import until_blocking

pytestmark = pytest.mark.timeout(600)
DIGITS = ROOT / "edge" / "data" / "digits"
WITHIN_S = 120.0  # emulated, and beside other tests
ASKED = 50


@pytest.fixture(scope="module", params=["litert", "tflite"])
def python(request: pytest.FixtureRequest, qemu_aarch64: str) -> Path:
    """The interpreter of an environment with this runtime."""
    try:
        return environment(request.param)
    except Unavailable as why:
        pytest.skip(f"nothing was tested on arm64: {why}")


def run(python: Path, *arguments: str | Path) -> str:
    """What it says. Raises CalledProcessError, TimeoutExpired."""
    return subprocess.run(
        [python, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=WITHIN_S
    ).stdout


def test_it_runs_on_arm64_and_its_children_do_too(python: Path) -> None:
    said = run(python, "-m", "edge", "version")
    assert "machine aarch64" in said
    assert {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}[python.parents[1].name] in said
    child = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import platform; print(platform.machine())'])"
    )
    assert run(python, "-c", child) == "aarch64\n"


@pytest.mark.parametrize("version", [1, 2])
def test_a_model_computes_on_arm64_what_it_computed_where_it_was_made(python: Path, version: int) -> None:
    (report,) = json.loads(run(python, "-m", "edge", "check", DIGITS / str(version), "--json"))["versions"]
    assert report["ok"], report
    assert report["runs"] == 2, report  # those of golden.npz


def test_digits_are_told_over_http_and_a_new_version_is_tried_and_swapped_in(python: Path, tmp_path: Path) -> None:
    models = tmp_path / "models" / "digits"
    shutil.copytree(DIGITS / "1", models / "1")
    with serving(tmp_path, models.parent, python=python, ready_within_s=WITHIN_S) as server:
        assert tell(server) >= 0.7  # the first version is the worse one
        shutil.copytree(DIGITS / "2", tmp_path / "2")
        (tmp_path / "2").rename(models / "2")
        until_blocking(lambda: answering(server) == 2, server.log.read_text, within_s=WITHIN_S)
        assert tell(server) >= 0.95
        assert run(python, "-m", "edge", "health", "--quiet", "--url", server.url) == ""


def tell(server: Running) -> float:
    """The share of digits that have never been seen and are told right."""
    held_back = np.load(DIGITS / "held_back.npz")
    pixels = np.round(held_back["images"][:ASKED].reshape(-1, 8, 8, 1) / 16 * 255 - 128).astype(int)
    scores = np.array(server.json("/v1/models/digits:predict", {"instances": pixels.tolist()})["predictions"])
    return float((scores.argmax(-1) == held_back["labels"][:ASKED]).mean())


def answering(server: Running) -> int:
    """The newest version that answers."""
    return max(int(each) for each in server.json("/v2/models/digits")["versions"])


def test_the_agent_verifies_and_brings_what_was_published_elsewhere(python: Path, tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    operator.publish(7)
    operator.roll_out(7, Probation(seconds=0.5, min_requests=0))
    models, state, config = tmp_path / "models", tmp_path / "sync", tmp_path / "agent.toml"
    models.mkdir()
    config.write_text(
        f'[device]\nid = "dev-1"\n[store]\nurl = "{operator.store.name}"\nroot = "{tmp_path / "root.json"}"\n'
        f'[paths]\nstate_dir = "{state}"\nmodels_dir = "{models}"\nephemeral = true\nadmin_uds = "{tmp_path}/admin.sock"\n'
    )
    with serving(tmp_path, models, python=python, ready=False, ready_within_s=WITHIN_S) as server:
        run(python, "-m", "sync", "agent", "once", "--config", config, "--within", str(WITHIN_S))
        assert server.json(f"/v1/models/{MODEL}:predict", {"inputs": [3.0]})["outputs"] == [21.0]


def test_without_an_emulator_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tests.system.TOOLS", ROOT / "nowhere")
    assert on_arm64.main(["litert", "-V"]) == UNAVAILABLE
    assert "qemu-aarch64-static" in capsys.readouterr().err
