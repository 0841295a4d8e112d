"""One device: a real server and a real agent, each a process of its own, that may be killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import sync

START_WITHIN_S = 30.0
END_WITHIN_S = 20.0
LAST_LINES = 15
HOME = Path(sync.__file__).parents[1]
"""What is started is of the same installation as this program."""
RUN = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from {package}.cli import main
sys.exit(main())
"""
"""A command, to be ended by the kernel (PR_SET_PDEATHSIG) when the demo is killed: nobody else would."""
CONFIG = """\
[device]
id = "{name}"

[store]
url = "{store}"
root = "{room}/root.json"

[paths]
state_dir = "{room}/device/sync"
models_dir = "{room}/device/models"
admin_uds = "{room}/device/admin.sock"
ephemeral = true

[poll]
every_s = 1.0

[report]
url = "{reports}"
"""


class DemoFailed(Exception):
    """What did not hold, for the person who started it."""


def environment() -> dict[str, str]:
    """Of every process that is started: nothing of edge's own, and no proxy between the device and loopback."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("EDGE_", "EDGE_SYNC_"))}
    kept |= {name: os.environ[name] for name in ("EDGE_RUNTIME",) if name in os.environ}
    path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH", ""))))
    return kept | {"PYTHONPATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


class Device:
    """`start_server` and `start_agent`, `kill`, `stop`. Files lie in `room`; its server listens on `port` of 127.0.0.1."""

    def __init__(self, room: Path, name: str, *, store: str, reports: str) -> None:
        """store, reports: URLs."""
        self.room, self.port = room, _free_port()
        self.config, self.journal = room / "agent.toml", room / "device" / "sync" / "state.json"
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        (room / "device").mkdir()
        self.config.write_text(CONFIG.format(name=name, room=room, store=store, reports=reports))

    async def start_server(self) -> None:
        """Returns when it answers. Raises DemoFailed."""
        models = self.room / "device" / "models"
        models.mkdir(exist_ok=True)
        await self._start(
            *("server", "edge", "serve", str(models), "--port", str(self.port)),
            *("--state-dir", str(self.room / "device" / "edge")),
            *("--set", f"admin.uds={self.room / 'device' / 'admin.sock'}"),
        )
        end = time.monotonic() + START_WITHIN_S
        while not await self._answers():
            if self._processes["server"].returncode is not None or time.monotonic() > end:
                raise DemoFailed(f"the server did not start{self.last_words()}")
            await asyncio.sleep(0.02)

    async def start_agent(self) -> None:
        await self._start("agent", "sync", "agent", "run", "--config", str(self.config))

    async def kill(self, *names: str) -> None:
        """`server`, `agent`: at once, as `kill -9` does."""
        for name in names:
            self._processes[name].kill()
        for name in names:
            await self._processes[name].wait()

    async def stop(self) -> None:
        """Both, in good order where they can."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                await asyncio.wait_for(process.wait(), END_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    def last_words(self) -> str:
        """The ends of both logs, on lines of their own."""
        found = ""
        for name in self._processes:
            lines = (self.room / f"{name}.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
            found += f"\n{name}:" + "".join(f"\n  {line}" for line in lines)
        return found

    async def _start(self, name: str, package: str, *arguments: str) -> None:
        with (self.room / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", RUN.format(package=package), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them
            )

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await reader.readline()).split()[1:2] == [b"200"]
        except OSError:
            return False
        finally:
            writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
