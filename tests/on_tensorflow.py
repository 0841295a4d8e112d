"""Runs the tests of SavedModels, with TensorFlow.

    python tests/on_tensorflow.py [pytest's arguments]

TensorFlow's pins and those of the development environment exclude each other, so it gets an environment of its own in
`.tools/gpu`, made by uv from what `pyproject.toml` says. Leaves with pytest's status, or with 77 when the environment
cannot be made, which takes 2.3 GB of disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.on_tflite_runtime import UNAVAILABLE, find_uv  # noqa: E402 - found by the line above

PLACE = ROOT / ".tools" / "gpu"
TESTS = ("tests/gpu",)
MAKE_WITHIN_S = 400.0


def main(arguments: list[str]) -> int:
    uv = find_uv()
    if uv is None:
        return unavailable("uv is neither in UV nor on PATH, nor at .uv/bin/uv")
    try:
        python = environment(uv)
    except subprocess.CalledProcessError as error:
        return unavailable(f"uv left with {error.returncode}: {error.stderr}")
    except subprocess.TimeoutExpired:
        return unavailable(f"the environment was not made within {MAKE_WITHIN_S:g} s")
    command = [python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *(arguments or TESTS)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def environment(uv: str) -> Path:
    """Its interpreter; what is there already is only looked at. Raises CalledProcessError, TimeoutExpired."""
    what = [
        "--no-default-groups",
        "--group",
        "test",
        "--group",
        "serving",
        "--group",
        "peers",
        "--extra",
        "gpu",
        "--extra",
        "fleet",
    ]
    subprocess.run(
        [uv, "sync", "--quiet", *what],
        cwd=ROOT,
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(PLACE)},
        check=True,
        capture_output=True,
        text=True,
        timeout=MAKE_WITHIN_S,
    )
    return PLACE / "bin" / "python"


def unavailable(why: str) -> int:
    print(f"nothing was tested with TensorFlow: {why}", file=sys.stderr)
    return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
