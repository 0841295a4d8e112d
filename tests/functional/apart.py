"""Tests that need an environment of their own, run by the program that makes it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.on_tflite_runtime import ROOT, UNAVAILABLE


async def passes_apart(program: str, *, limit_s: float) -> None:
    """Runs it, and fails as it does; skips, in its words, where it cannot make its environment. It ends with the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        program,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = said.decode(errors="replace")
    if process.returncode == UNAVAILABLE:
        pytest.skip(text.strip())
    assert process.returncode == 0, text[-5_000:]
