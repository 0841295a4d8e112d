"""A server that is kept as systemd keeps one: it inherits sockets that outlive it, and somebody hears what it tells."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.inheriting import inheriting
from tests.waiting import until_blocking

STOP_WITHIN_S = 60.0


class Keeper:
    """`heard`: each message, as its assignments. `sockets`: by name, listening; closed with the keeper."""

    def __init__(
        self, path: Path, sockets: Mapping[str, socket.socket] | None = None, *, watchdog_s: float = 0.0
    ) -> None:
        self.path, self.sockets, self._watchdog_s = path, dict(sockets or {}), watchdog_s
        self.heard: list[dict[str, str]] = []
        self.log = path / "kept.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(path / "notify"))
        self._listener = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path / "notify"))
        self._listener.join()
        self._notify.close()
        for each in self.sockets.values():
            each.close()

    def _listen(self) -> None:
        while message := self._notify.recv(65536):
            self.heard.append(dict(line.split("=", 1) for line in message.decode().split("\n")))

    def start(self, *arguments: str | Path, module: str = "edge", ready: bool = True) -> None:
        """`edge serve`, or of `sync` what the arguments say; returns when it has said READY=1."""
        numbers = [each.fileno() for each in self.sockets.values()]
        own = ("serve", *arguments, "--state-dir", self.path / "state") if module != "sync" else arguments
        self.heard.clear()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                inheriting(numbers, sys.executable, "-m", module, *map(str, own)),
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=self._environment(),
            )
        if ready:
            self.until("READY", "1")

    def _environment(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("EDGE_")}
        kept |= {"NOTIFY_SOCKET": str(self.path / "notify"), "EDGE_ADMIN__UDS": str(self.path / "admin.sock")}
        if self.sockets:
            kept["LISTEN_FDNAMES"] = ":".join(self.sockets)
        if self._watchdog_s:
            kept["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        return kept

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """By SIGTERM, which must succeed."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        assert self.process.wait(STOP_WITHIN_S) == 0, self.log.read_text()

    def said(self, name: str) -> list[str]:
        """All values of that name so far, in their order."""
        return [message[name] for message in list(self.heard) if name in message]

    def until(self, name: str, text: str, *, within_s: float = 90.0) -> None:
        """Until it has been told. Raises TimeoutError with all that was told."""

        def told() -> bool:
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            return text in self.said(name)

        until_blocking(told, lambda: f"{self.heard}\n{self.log.read_text()}", within_s=within_s)
