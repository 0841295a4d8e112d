"""The TFLite backend passes its tests on tflite-runtime as well."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.on_tflite_runtime import ROOT, UNAVAILABLE

LIMIT_S = 570.0


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.environ.get("EDGE_RUNTIME") == "tflite", reason="this is that run")
async def test_the_tflite_backend_passes_its_tests_on_tflite_runtime() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "tests/on_tflite_runtime.py",
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
