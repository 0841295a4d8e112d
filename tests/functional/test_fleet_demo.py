"""The demo of a fleet as somebody runs it who has just come by, only shorter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
WITHIN_S = 240.0
FIGURES = re.compile(r"(\d+) requests sent, (\d+) failed(?:, (\d+) found no server that was ready)?; answered: (.*)")


@contextmanager
def demo(log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Killed at the end if it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "examples/fleet_demo.py", "--quick"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def figures(text: str) -> list[tuple[int, int, int, dict[int, int]]]:
    """Of each load that is told: sent, failed, unheard, and answers by version."""
    return [
        (
            int(sent),
            int(failed),
            int(unheard or 0),
            {int(version): int(count) for count, version in re.findall(r"(\d+) by version (\d+)", answered)},
        )
        for sent, failed, unheard, answered in FIGURES.findall(text)
    ]


@pytest.mark.timeout(WITHIN_S + 30)
def test_a_good_version_loses_no_request_and_bad_ones_end_with_the_good_one_serving(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with demo(log) as process:
        assert process.wait(WITHIN_S) == 0, log.read_text()
    text = log.read_text()
    acts = {int(act[0]): act for act in re.split(r"(?m)^Version (?=\d)", text.split("\nAll ")[0])[1:]}
    assert sorted(acts) == [2, 3, 4, 5, 6]

    ((sent, failed, unheard, answered),) = figures(acts[2])
    assert (failed, unheard, set(answered)) == (0, 0, {1, 2})
    assert sent == sum(answered.values())
    assert min(answered.values()) > 10

    for version in (3, 5):
        ((sent, failed, unheard, answered),) = figures(acts[version])
        assert (failed, set(answered)) == (0, {2})
        assert (unheard > 0) == (version == 5), "only a server that was killed is missed"
        assert f"edge-sync: digits-{version}: self-test: output scores" in acts[version], "publish refuses it"
        assert '"reason": "selftest_failed"' in acts[version]
    for version in (4, 6):
        pale, bright, after = figures(acts[version])
        assert pale[1] == 0
        assert pale[3][version] > 0
        assert bright[1] > 0
        assert (after[1], after[2], set(after[3])) == (0, 0, {2})
        assert '"reason": "health_errors"' in acts[version]
    assert all('"active": 2' in acts[version] for version in (3, 4, 5, 6))
    assert all(("kill -9 of the agent" in acts[version]) == (version > 4) for version in acts)

    assert all(sent == failed + unheard + sum(answered.values()) for sent, failed, unheard, answered in figures(text))
    (claims,) = re.findall(r"All (\d+) claims held", text)
    assert int(claims) == text.count("✓") > 20
    assert "Traceback" not in text


def test_ctrl_c_ends_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    # The paths of sockets below it have to be short.
    with tempfile.TemporaryDirectory(prefix="demo-") as room, demo(log, TMPDIR=room) as process:
        end = time.monotonic() + 60
        while "the server serves it" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130, log.read_text()
        assert psutil.wait_procs(children, timeout=30)[1] == []
        assert os.listdir(room) == []
    assert "Traceback" not in log.read_text()


def test_what_does_not_hold_is_told_and_it_leaves_with_1(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with demo(log, EDGE_RUNTIME="none such") as process:
        assert process.wait(60) == 1, log.read_text()
    assert "fleet demo: edge-sync publish: want exit code 0, got" in log.read_text()
    assert "Traceback" not in log.read_text()
