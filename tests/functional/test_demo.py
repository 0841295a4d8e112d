"""`edge demo` as somebody runs it who has just come by."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

WITHIN_S = 60.0


@contextmanager
def demo(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """On a free port; killed at the end if it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge", "demo", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def said(log: Path, process: subprocess.Popen[bytes], pattern: str) -> re.Match[str]:
    """The first match in what it prints. Raises TimeoutError with all that it printed."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        ended = process.poll() is not None
        if found := re.search(pattern, log.read_text()):
            return found
        if ended:
            break
        time.sleep(0.01)
    raise TimeoutError(log.read_text())


def test_once_shows_digits_swaps_under_load_and_leaves(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with demo(log, "--once") as process:
        assert process.wait(WITHIN_S) == 0, log.read_text()
    text = log.read_text()
    (before, after) = re.findall(r"(?m)^  (says \d, is \d.*)$", text)
    right = [sum(says == truth for says, truth in re.findall(r"says (\d), is (\d)", row)) for row in (before, after)]
    assert right == [4, 5], "the second version knows better"
    assert len(re.findall(r"[░▒▓█]{2}", text)) > 100, "the digits can be seen"
    assert len(re.findall(r"\d\.\d ms", text.split("Publishing")[0])) == 5
    sent, failed, first, second = map(
        int,
        re.findall(r"(\d+) requests sent, (\d+) failed; answered: (\d+) by version 1, (\d+) by version 2", text)[0],
    )
    assert failed == 0
    assert sent == first + second
    assert min(first, second) > 10
    assert re.search(r"p99 \d+\.\d ms before the swap, \d+\.\d ms during it", text)
    assert "Traceback" not in text


@pytest.mark.parametrize("moment", ["is serving digits at", "Publishing version 2", "curl "])
def test_ctrl_c_ends_it_at_any_moment_and_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    log = tmp_path / "demo.log"
    with demo(log) as process:
        said(log, process, moment)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) in (0, 130), log.read_text()
        assert psutil.wait_procs(children, timeout=30)[1] == []
    assert "Traceback" not in log.read_text()


def test_it_goes_on_serving_and_its_curl_line_works(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with demo(log) as process:
        line = said(log, process, r"curl .*").group()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert '"predictions"' in done.stdout
        with urllib.request.urlopen(url.group() + "/", timeout=10) as page:
            assert b"digits" in page.read() or page.status == 200


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with demo(log) as first:
        port = said(log, first, r"http://127\.0\.0\.1:(\d+)")[1]
        second = subprocess.run(
            [sys.executable, "-m", "edge", "demo", "--once", "--port", port],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert second.returncode not in (0, 130)
    assert port in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_demo_that_is_ended_takes_its_server_with_it(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "demo.log"
    with demo(log) as process:
        said(log, process, "is serving digits at")
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(how)
        process.wait(15)
        assert psutil.wait_procs(children, timeout=30)[1] == []
