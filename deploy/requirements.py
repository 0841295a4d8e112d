"""Writes down what pip is to install on a device, each package at the version that `pyproject.toml` pins.

    python deploy/requirements.py litert|tflite DIRECTORY

makes `requirements.txt`, `constraints.txt` and `build.txt` (what builds this package) in DIRECTORY. The standard library
alone: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
RUNTIMES = ("litert", "tflite")
EITHER = {"ai-edge-litert", "tflite-runtime"}


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower()


def requirements(runtime: str) -> list[str]:
    """What a device with this runtime needs. tflite-runtime takes the place of LiteRT, and brings a numpy of its own age."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted: list[str] = project["dependencies"]
    if runtime == "litert":
        return wanted
    extra: list[str] = project["optional-dependencies"]["tflite"]
    replaced = EITHER | {name_of(each) for each in extra}
    return [each for each in wanted if name_of(each) not in replaced] + extra


def constraints() -> tuple[list[str], list[str]]:
    """The pins, and those of what builds this package."""
    uv = tomllib.loads(PROJECT.read_text())["tool"]["uv"]
    return uv["constraint-dependencies"], uv["build-constraint-dependencies"]


def write(runtime: str, place: Path) -> None:
    """Raises OSError."""
    pins, builders = constraints()
    place.mkdir(parents=True, exist_ok=True)
    for file, lines in (("requirements", requirements(runtime)), ("constraints", pins), ("build", builders)):
        (place / f"{file}.txt").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in RUNTIMES:
        sys.exit(__doc__)
    write(sys.argv[1], Path(sys.argv[2]))
