"""SavedModels pass their tests where TensorFlow is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.on_tflite_runtime import ROOT, UNAVAILABLE

LIMIT_S = 870.0


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_saved_models_pass_their_tests_on_tensorflow() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "tests/on_tensorflow.py",
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = said.decode(errors="replace")
    if process.returncode == UNAVAILABLE:
        pytest.skip(text.strip())
    assert process.returncode == 0, text[-5_000:]
