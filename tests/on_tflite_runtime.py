"""Runs the tests of the TFLite backend on tflite-runtime, the predecessor of LiteRT that some boards need.

    python tests/on_tflite_runtime.py [pytest's arguments]

It cannot live beside LiteRT (it needs numpy 1 and Python 3.11), so it gets an environment of its own in
`.tools/tflite`, made by uv from what `pyproject.toml` says. Leaves with pytest's status, or with 77 when the environment
cannot be made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".tools" / "tflite"
PYTHON = "3.11"
TESTS = (
    "tests/unit/backends",
    "tests/functional/test_trial.py",
    # Of another runtime.
    "--ignore=tests/unit/backends/worker",
    "--ignore=tests/unit/backends/test_savedmodel.py",
)
TOOLS = (
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "blockbuster",
    "psutil",
    "pillow",
    "msgspec",
)
UNAVAILABLE = 77


def main(arguments: list[str]) -> int:
    uv = find_uv()
    if uv is None:
        return unavailable("uv is neither in UV nor on PATH, nor at .uv/bin/uv")
    try:
        python = environment(uv)
    except subprocess.CalledProcessError as error:
        return unavailable(f"{' '.join(map(str, error.cmd[:3]))} left with {error.returncode}: {error.stderr}")
    command = [python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *(arguments or TESTS)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"EDGE_RUNTIME": "tflite"}, check=False).returncode


def find_uv() -> str | None:
    """The uv that runs this, which it tells in UV; else one on PATH; else the one that README installs."""
    own = ROOT / ".uv" / "bin" / "uv"
    return os.environ.get("UV") or shutil.which("uv") or (str(own) if own.exists() else None)


def environment(uv: str) -> Path:
    """Its interpreter; made anew when what it should hold has changed. Raises CalledProcessError."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["optional-dependencies"]["tflite"], *TOOLS]
    pins = [line for line in project["tool"]["uv"]["constraint-dependencies"] if not line.startswith("numpy")]
    python, stamp = PLACE / "bin" / "python", PLACE / "made-of"
    made_of = "\n".join([PYTHON, *wanted, "", *pins])
    if stamp.is_file() and stamp.read_text() == made_of:
        return python
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.parent.mkdir(exist_ok=True)
    run(uv, "venv", "--quiet", "--python", PYTHON, PLACE)
    constraints = PLACE / "constraints.txt"
    constraints.write_text("\n".join(pins))
    run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", constraints, *wanted)
    stamp.write_text(made_of)
    return python


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)


def unavailable(why: str) -> int:
    print(f"nothing was tested on tflite-runtime: {why}", file=sys.stderr)
    return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
