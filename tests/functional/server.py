"""A real `edge serve` on a free loopback port, as a process that the test ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_WITHIN_S = 90.0


@dataclass
class Running:
    """`log` is what the server writes to stderr, `admin` its admin socket."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    admin: Path
    ready_within_s: float = READY_WITHIN_S

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """GET, or POST where there is a body: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        status, answer = self.ask(path, body, headers)
        assert status == 200, answer
        return json.loads(answer)

    def wait_ready(self) -> None:
        end = time.monotonic() + self.ready_within_s
        while time.monotonic() < end:
            try:
                if self.ask("/v2/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise TimeoutError(self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    tmp_path: Path,
    *arguments: str | Path,
    ready: bool = True,
    environment: dict[str, str] | None = None,
    module: str = "edge",
    python: str | Path = sys.executable,
    ready_within_s: float = READY_WITHIN_S,
    enter: tuple[str, ...] = (),
) -> Iterator[Running]:
    """State and sockets lie under `tmp_path`. Ended by SIGTERM, which must succeed. `module` has the command, `python` is
    the interpreter; `enter` goes before it, and is replaced by it."""
    log, admin = tmp_path / "server.log", tmp_path / "admin.sock"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *enter,
                *(python, "-m", module, "serve", *map(str, arguments), "--port", "0"),
                *("--state-dir", str(tmp_path / "state"), "--set", f"admin.uds={admin}"),
            ],
            stdin=subprocess.DEVNULL,
            stderr=file,
            env={key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
            | {key: os.environ[key] for key in ("EDGE_RUNTIME",) if key in os.environ}
            | (environment or {}),
        )
    running = Running(process, 0, log, admin, ready_within_s)
    try:
        running.port = _port(running)
        if ready:
            running.wait_ready()
        yield running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            running.kill()


def configuration(file: Path, models: dict[str, Path], more: str = "") -> None:
    """Writes the file: a table for each model, behind `more`."""
    tables = [f'[models.{name}]\npath = "{path}"\n' for name, path in models.items()]
    file.write_text(more + "\n".join(tables))


def _port(running: Running) -> int:
    end = time.monotonic() + running.ready_within_s
    while time.monotonic() < end:
        found = re.findall(r"serving at https?://[^:]+:(\d+)", running.log.read_text())
        if found:
            return int(found[-1])
        assert running.process.poll() is None, running.log.read_text()
        time.sleep(0.02)
    raise TimeoutError(running.log.read_text())
