"""A version with two builds, a TFLite model for every CPU and a SavedModel for GPUs, from the operator's directory to answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.domain.layout import ASPIRED_FILE
from sync.domain.layout import manifest_name
from sync.domain.release import Manifest, choose_variant, parse_manifest
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Repository
from sync.stores.directory import DirectoryStore
from tests import tflite_models
from tests.functional.server import Running, configuration, serving
from tests.gpu import saved
from tests.waiting import until_blocking

WITHIN_S = 150.0


class Operator:
    def __init__(self, path: Path) -> None:
        self.store, self.keys, self.root = path / "store", path / "keys", path / "root.json"
        self.sync("keys", "init", "--root", str(self.root))

    def sync(self, *words: str) -> str:
        """`edge-sync`, which must succeed."""
        command = [sys.executable, "-m", "sync", *words, "--store", str(self.store), "--keys", str(self.keys)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def publish(self, directory: Path, version: int, *more: str) -> str:
        return self.sync("publish", str(directory), "--name", "m", "--version", str(version), *more)

    def manifest(self, version: int) -> Manifest:
        async def read() -> bytes | None:
            repository = Repository(DirectoryStore(self.store), KeyRing(self.keys))
            await repository.open()
            return await repository.read("releases", manifest_name("m", version))

        data = asyncio.run(read())
        assert data is not None
        return parse_manifest(data)


@contextmanager
def agent(path: Path, operator: Operator, models: Path) -> Iterator[Path]:
    """On a device with a GPU, as its configuration says; its log."""
    log, config = path / "agent.log", path / "agent.toml"
    config.write_text(
        f'[device]\nid = "dev-1"\naccelerators = ["cpu", "gpu"]\n[store]\nurl = "{operator.store}"\nroot = "{operator.root}"\n'
        f'[paths]\nstate_dir = "{path / "sync"}"\nmodels_dir = "{models}"\nephemeral = true\n'
        f'admin_uds = "{path / "admin.sock"}"\n[poll]\nevery_s = 0.2\nmax_s = 0.5\n'
    )
    with log.open("wb") as file:
        command = [sys.executable, "-m", "sync", "agent", "run", "--config", str(config), "--watch-s", "0.1"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(20)


def builds(path: Path, factor: float) -> tuple[Path, Path]:
    """The same model twice."""
    (path / "tflite").mkdir(parents=True)
    (path / "tflite" / "model.tflite").write_bytes(tflite_models.scaling(factor, (1, 2)))
    return path / "tflite", saved.scaling(path / "saved", factor)


def ask(server: Running) -> Any:
    return server.json("/v1/models/m:predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]})["predictions"]


@pytest.mark.timeout(400)
def test_a_saved_model_goes_from_the_operator_to_a_devices_gpu_and_its_tflite_build_to_the_others(
    tmp_path: Path,
) -> None:
    operator = Operator(tmp_path)
    tflite, directory = builds(tmp_path / "v1", 2.0)
    operator.publish(tflite, 1)
    assert "(gpu): published" in operator.publish(directory, 1, "--variant", "gpu")
    manifest = operator.manifest(1)
    assert choose_variant(manifest, ["cpu"]).id == "cpu"
    chosen = choose_variant(manifest, ["cpu", "gpu"])
    assert {"saved_model.pb", "variables/variables.index"} <= {file.path for file in chosen.files}
    operator.sync("rollout", "start", "m", "1", "--percent", "100", "--spread", "0", "--probation", "1s")

    models = tmp_path / "models"
    models.mkdir()
    config = tmp_path / "edge.toml"
    configuration(config, {"m": models / "m"})
    config.write_text(config.read_text() + 'device = "gpu:0"\n')
    with serving(tmp_path, "--config", config, ready=False) as server, agent(tmp_path, operator, models) as log:

        def about() -> str:
            return log.read_text()[-3000:] + server.log.read_text()[-3000:]

        until_blocking(lambda: server.ask("/v2/models/m/versions/1/ready")[0] == 200, about, within_s=WITHIN_S)
        installed = {
            str(each.relative_to(models / "m" / "1")) for each in (models / "m" / "1").rglob("*") if each.is_file()
        }
        assert installed == {file.path for file in chosen.files}
        assert ask(server) == [[2.0, 4.0], [6.0, 8.0]], "a batch: the SavedModel's, and not the other build's"
        aspired = json.loads((models / "m" / ASPIRED_FILE).read_text())
        assert aspired["versions"] == [1]


def test_a_build_whose_inputs_are_others_is_refused(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    tflite, _ = builds(tmp_path / "v1", 2.0)
    operator.publish(tflite, 1)
    directory = saved.scaling(tmp_path / "wide", 2.0, [None, 3])
    with pytest.raises(
        AssertionError, match=r"its inputs and outputs are not those of version 1: want x float32 \[1,2\]"
    ):
        operator.publish(directory, 1, "--variant", "gpu")
