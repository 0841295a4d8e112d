"""`tensorflow_model_server` on a free loopback port, as a process that the test ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.functional.server import Running
from tests.waiting import until_blocking

WITHIN_S = 90.0
EXPORTING = "Exporting HTTP/REST API at:localhost:"


def environment(tmp_path: Path) -> dict[str, str]:
    """On loopback, and with nothing of this machine's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
    return kept | {
        "EDGE_HTTP__HOST": "127.0.0.1",
        "EDGE_SERVER__STATE_DIR": str(tmp_path / "state"),
        "EDGE_ADMIN__UDS": str(tmp_path / "admin.sock"),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.tfserving_cli", *map(str, arguments)]


@contextmanager
def started(tmp_path: Path, *arguments: object, more: Mapping[str, str] | None = None) -> Iterator[Running]:
    """With `--port=0` and a free `--rest_api_port`; it may not listen yet. Ended by SIGTERM, which must succeed."""
    log, port = tmp_path / "server.log", free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command("--port=0", f"--rest_api_port={port}", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment(tmp_path) | dict(more or {}),
        )
    running = Running(process, port, log, tmp_path / "admin.sock")
    try:
        yield running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            running.kill()


@contextmanager
def standing_in(tmp_path: Path, *arguments: object, more: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The same, once it has said that it listens."""
    with started(tmp_path, *arguments, more=more) as running:
        said(running, f"{EXPORTING}{running.port} ...")
        yield running


def said(server: Running, text: str, times: int = 1) -> None:
    """Return once its log has the text so many times."""

    def has() -> bool:
        assert server.process.poll() is None, server.log.read_text()
        return server.log.read_text().count(text) >= times

    until_blocking(has, server.log.read_text, within_s=WITHIN_S)


@contextmanager
def still_written(version: Path) -> Iterator[None]:
    """Somebody still writes into that directory."""
    over = threading.Event()

    def write_on() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            (version / "labels.txt").write_text(str(number))

    writer = threading.Thread(target=write_on, daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join(10)


class Asking(threading.Thread):
    """Asks one route again and again; `answers` counts first predictions, `failures` has whatever was not 200."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        super().__init__(daemon=True)
        self._port, self._path, self._body = port, path, body
        self.answers: Counter[float] = Counter()
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self.over.is_set():
            try:
                connection.request("POST", self._path, self._body)
                answer = connection.getresponse()
                text = answer.read()
            except OSError as error:
                self.failures.append(repr(error))
                continue
            if answer.status == 200:
                self.answers[self.counted(json.loads(text)["predictions"][0])] += 1
            else:
                self.failures.append(f"{answer.status} {text!r}")
        connection.close()

    def counted(self, prediction: Any) -> float:
        return float(prediction)

    def more(self, count: int = 20) -> None:
        """Return once so many more were answered."""
        wanted = self.answers.total() + count
        until_blocking(lambda: self.answers.total() >= wanted, lambda: self.failures[:3], within_s=WITHIN_S)
