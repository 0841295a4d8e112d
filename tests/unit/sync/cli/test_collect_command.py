"""`edge-sync collect`: as a process that devices talk to, and that is told to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync.agent.delivery import HttpDelivery
from sync.agent.files import OsFiles
from sync.agent.outbox import Outbox
from sync.agent.reporter import Reporter
from sync.domain.report import Report, encode_report
from sync.fleet.reports import ReportDirectory
from tests.unit.sync.cli.edge_sync import edge_sync


@contextmanager
def collecting(directory: Path, *more: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = ["collect", "--listen", "127.0.0.1:0", "--dir", str(directory), "--json", *map(str, more)]
    with subprocess.Popen(
        [sys.executable, "-m", "sync", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


def post(url: str, data: bytes, token: str = "") -> int:
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {token}"} if token else {}, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_takes_reports_until_it_is_told_to_stop(tmp_path: Path, number: int) -> None:
    (tmp_path / "token").write_text("sesame\n")
    with collecting(tmp_path / "reports", "--token-file", tmp_path / "token") as (process, url):
        assert post(url, encode_report(Report("cam-1", "line-3", 1, 5.0, {})), "sesame") == 200
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, "", "stopped\n")
    assert list(ReportDirectory(OsFiles(), tmp_path / "reports").devices()) == ["cam-1"]


async def test_a_device_gets_rid_of_a_report_that_it_refuses_and_goes_on_with_the_next(tmp_path: Path) -> None:
    """One that makes no sense, one that is too long, one that is from nobody, and others between them."""
    outbox = Outbox(OsFiles(), tmp_path / "outbox")
    good = [encode_report(Report("cam-1", "line-3", seq, float(seq), {})) for seq in (1, 3, 5)]
    bad = [b'{"format": "edge-report/9"}', encode_report(Report("cam-1", "x" * 5000, 4, 4.0, {})), b"[]"]
    for seq, data in enumerate([good[0], bad[0], good[1], bad[1], good[2], bad[2]], start=1):
        outbox.put(seq, data)
    with collecting(tmp_path / "reports", "--max-report", "1KiB") as (_, url):
        assert await Reporter(outbox, HttpDelivery(url)).flush()
    log = ReportDirectory(OsFiles(), tmp_path / "reports").of("cam-1")
    assert log is not None
    assert [kept.report.seq for kept in log.kept] == [1, 3, 5]
    assert (len(outbox), outbox.refused().count, outbox.refused().seq) == (0, 3, 6)
    assert "got 400" in outbox.refused().why


def test_what_was_said_to_be_taken_outlives_a_kill(tmp_path: Path) -> None:
    with collecting(tmp_path) as (process, url):
        post(url, encode_report(Report("cam-1", "line-3", 1, 5.0, {})))
        process.kill()
    assert list(ReportDirectory(OsFiles(), tmp_path).devices()) == ["cam-1"]


def test_two_in_one_directory_are_told(tmp_path: Path) -> None:
    with collecting(tmp_path):
        said = edge_sync("collect", "--listen", "127.0.0.1:0", "--dir", tmp_path)
    assert said.code == 2
    assert "another collector is at work there" in said.errors


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with collecting(tmp_path / "one") as (_, url):
        port = url.split(":")[2].split("/")[0]
        said = edge_sync("collect", "--listen", f"127.0.0.1:{port}", "--dir", tmp_path / "two")
    assert said.code == 2
    assert f"--listen 127.0.0.1:{port}: " in said.errors


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("8700", "want an address and a port"),
        ("127.0.0.1:", "want an address and a port"),
        ("127.0.0.1:70000", "want an address and a port"),
        ("somewhere:80", "want an address and a port"),
        ("0.0.0.0:0", "want --token-file for an address that others reach"),
        ("[::]:0", "want --token-file for an address that others reach"),
    ],
)
def test_where_it_cannot_or_should_not_listen_is_2(tmp_path: Path, listen: str, says: str) -> None:
    said = edge_sync("collect", "--listen", listen, "--dir", tmp_path)
    assert said.code == 2
    assert says in said.errors


def test_an_empty_token_is_none_and_2(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    said = edge_sync("collect", "--listen", "127.0.0.1:0", "--dir", tmp_path, "--token-file", tmp_path / "token")
    assert said.code == 2
    assert "want a token in it" in said.errors
