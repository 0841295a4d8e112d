"""Directories of models for a server under test."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from edge.domain.tensors import DType
from tests import tflite_models

DIGITS = Path(str(files("edge"))) / "data" / "digits"
PIXELS = [[[0]] * 8] * 8
HALF = b'{"instances": [1.0]}'
HALVED = {"predictions": [0.5]}
LOOP = "/v1/models/loop:predict"
FOR_EVER = b'{"inputs": [-1e9]}'
"""For `looping`."""


def half(directory: Path) -> Path:
    """`half.tflite`: `x` float32 [?] → `y`, half of it."""
    path = directory / "half.tflite"
    path.write_bytes(tflite_models.scaling(0.5))
    return path


def looping(directory: Path) -> Path:
    """`loop.tflite`: runs for about 0.16 µs times -x; for ever where x is below -2**24, as float32 has no next number."""
    path = directory / "loop.tflite"
    path.write_bytes(tflite_models.looping(0.0))
    return path


def zoo(directory: Path) -> Path:
    """One model for each kind of tensor and of failure, in its version 1."""
    for name, content in {
        "half": tflite_models.scaling(0.5),
        "words": tflite_models.passing(DType.STRING),
        "ints": tflite_models.passing(DType.INT32),
        "flags": tflite_models.passing(DType.BOOL),
        "sum": tflite_models.adding(),
        "pick": tflite_models.picking(),
    }.items():
        version = directory / name / "1"
        version.mkdir(parents=True)
        (version / "model.tflite").write_bytes(content)
    shutil.copytree(DIGITS / "1", directory / "digits" / "1")
    return directory


def publish(version: Path, target: Path) -> None:
    """Copy a version beside `target`, then rename it into place."""
    staging = target.with_name(f".{target.name}.new")
    shutil.copytree(version, staging)
    staging.rename(target)
