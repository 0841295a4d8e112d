"""`edge-sync agent once`: its exit code says what kept it from the store, as those of the other commands do."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.sync.cli.edge_sync import Said, edge_sync
from tests.unit.sync.fleet.shop import Shop
from tests.waiting import until_blocking


def words(tmp_path: Path, **keys: object) -> list[str]:
    device = {
        "device.group": "line-3",
        "paths.state_dir": tmp_path / "device/state",
        "paths.models_dir": tmp_path / "device/models",
        "paths.admin_uds": tmp_path / "device/admin.sock",
        "paths.ephemeral": "true",
        "store.url": tmp_path / "store",
        "store.root": tmp_path / "root.json",
    }
    given = {**device, **{key.replace("__", "."): value for key, value in keys.items()}}
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


def once(tmp_path: Path, *flags: str, **keys: object) -> Said:
    return edge_sync("agent", "once", "--within", "0", *flags, *words(tmp_path, **keys))


@pytest.mark.usefixtures("shop")
def test_a_store_that_does_not_answer_is_4_and_one_that_is_none_3(tmp_path: Path, unused_tcp_port: int) -> None:
    assert once(tmp_path, store__url=f"http://127.0.0.1:{unused_tcp_port}/").code == 4
    assert once(tmp_path, store__url=tmp_path / "nowhere").code == 3


@pytest.mark.usefixtures("shop")
def test_a_group_that_nothing_was_rolled_out_to_is_3(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert once(tmp_path, device__group="lien-3").code == 3
    assert "nothing was ever rolled out to the group lien-3); see that device.group is right" in caplog.text


@pytest.mark.usefixtures("shop")
def test_another_stores_root_is_5_and_it_is_said_what_to_compare(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Shop(tmp_path / "other")
    asyncio.run(other.create())
    (tmp_path / "other.json").write_bytes(other.root)
    assert once(tmp_path, store__root=tmp_path / "other.json").code == 5
    (line,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert line.endswith("; compare this device's root document with the operator's, by its digest")
    assert "keyid" not in caplog.text, "which signatures were tried helps nobody"


@pytest.mark.usefixtures("shop")
def test_what_came_of_a_poll_is_one_document_as_that_of_status_also_where_it_failed(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    begun = once(tmp_path, "--json", device__id="cam-1")
    told = json.loads(begun.out)
    assert (begun.code, told["done"], told["problem"], told["running"]) == (1, False, None, False)
    assert (told["group"], told["models"]["detector"]["wanted"]) == ("line-3", 1)
    away = once(tmp_path, "--json", store__url=f"http://127.0.0.1:{unused_tcp_port}/")
    told = json.loads(away.out)
    assert (away.code, told["done"], told["problem"]["reason"]) == (4, False, "net_unreachable")


class Idle:
    """An agent that is done at once."""

    async def run(self) -> None:
        pass

    async def close(self) -> None:
        pass


def test_an_agent_that_starts_says_who_it_is_and_whom_it_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sync")
    monkeypatch.setattr("sync.app.assemble", lambda config: Idle())
    flags = ("--set", "device.id=cam-7", "--set", "device.group=line-3", "--set", "store.url=https://models.example/")
    assert edge_sync("agent", "run", *flags).code == 0
    said = "cam-7, of the group line-3, asks https://models.example/ every 15 min; `edge-sync agent status` says more"
    assert said in caplog.text


class Collector(BaseHTTPRequestHandler):
    """Takes every report; `taken` has them."""

    taken: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    """Its URL."""
    Collector.taken.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/reports"
        server.shutdown()
        serving.join()


@pytest.mark.usefixtures("shop")
def test_who_looks_once_and_gets_sigterm_sends_its_reports_and_leaves_with_1(tmp_path: Path, collector: str) -> None:
    settings = words(tmp_path, device__id="cam-2", report__url=collector)
    command = [sys.executable, "-m", "sync", "agent", "once", "--json", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until_blocking(lambda: any((tmp_path / "device/state/outbox").glob("*.json")), within_s=30)
            assert Collector.taken == [], "what is under way is not at its end"
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, json.loads(out)["done"]) == (1, False), errors
    assert {each["device"] for each in Collector.taken} == {"cam-2"}
    assert not any((tmp_path / "device/state/outbox").glob("*.json"))
