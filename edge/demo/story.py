"""The demo: a real server as its users meet it, from the first answer to a swap under load.

It starts `edge serve` on loopback as a process of its own, sends it digits that no version was trained on, publishes
version 2 while requests run, and counts. Nothing is left behind: the models lie in a temporary directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge.demo.clients import MODEL, Connection, Tally, ask_again_and_again

USUAL_PORT = 8501
SHOWN = 5
CLIENTS = 4
BEFORE_S = 2.0
AFTER_S = 1.0
SWAP_WITHIN_S = 30.0
START_WITHIN_S = 30.0
SHADES = " ░▒▓█"
PLAIN_SHADES = " .:*#"
LOG = "server.log"
LAST_LINES = 5
SERVE = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from edge.cli import main
main()
"""
"""`edge`, to be ended by the kernel (PR_SET_PDEATHSIG) when the demo is killed: nobody else would."""


class DemoFailed(Exception):
    """What went wrong, for the person who started it."""


def run_demo(once: bool, port: int) -> int:
    """`once` ends it after the swap, else it serves until Ctrl-C. `port` 0 takes 8501, or a free one. The exit code."""
    try:
        return asyncio.run(_Demo(once, port).run())
    except DemoFailed as error:
        print(f"edge demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


class _Demo:
    def __init__(self, once: bool, port: int) -> None:
        self._once = once
        self._port = _free_port((port,) if port else (USUAL_PORT, 0))
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last by a terminal that is closed
            loop.add_signal_handler(number, self._stop.set)
        with tempfile.TemporaryDirectory(prefix="edge-demo-") as folder, _shipped() as digits:
            room = Path(folder)
            await asyncio.to_thread(shutil.copytree, digits / "1", room / "models" / MODEL / "1")
            server = await self._start(room)
            try:
                main = asyncio.create_task(self._show(room, digits))
                stopped = asyncio.create_task(self._stop.wait())
                died = asyncio.create_task(server.wait())
                await asyncio.wait({main, stopped, died}, return_when=asyncio.FIRST_COMPLETED)
                if died.done() and not self._stop.is_set():
                    raise DemoFailed(f"the server ended with exit code {died.result()}{_last_words(room)}")
                code = await main if main.done() else 0
                for task in (main, stopped):
                    task.cancel()
                await asyncio.gather(main, stopped, return_exceptions=True)
                return code
            finally:
                await _end(server)

    async def _start(self, room: Path) -> asyncio.subprocess.Process:
        began = time.monotonic()
        with (room / LOG).open("wb") as log:
            server = await self._spawn(room, log)
        try:
            while not await self._ready():
                if server.returncode is not None:
                    raise DemoFailed(f"the server did not start: exit code {server.returncode}{_last_words(room)}")
                if time.monotonic() > began + START_WITHIN_S:
                    raise DemoFailed(f"the server was not ready after {START_WITHIN_S:g} s")
                await asyncio.sleep(0.02)
        except BaseException:
            await _end(server)
            raise
        print(f"edge is serving {MODEL} at http://127.0.0.1:{self._port} ({time.monotonic() - began:.2f} s to ready)")
        if self._port != USUAL_PORT:
            print(f"  not at {USUAL_PORT}, as the README's examples have it: put {self._port} in its place there")
        print()
        return server

    async def _spawn(self, room: Path, log: BinaryIO) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVE, "serve", str(room / "models"), "--port", str(self._port)),
            *("--state-dir", str(room / "state"), "--set", f"admin.uds={room / 'admin.sock'}"),
            *("--log-level", "warning"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the server
        )

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await reader.readline()).split()[1:2] == [b"200"]
        except OSError:
            return False
        finally:
            writer.close()

    async def _show(self, room: Path, digits: Path) -> int:
        with np.load(digits / "held_back.npz") as held:
            images, labels = held["images"], held["labels"]
        print("Digits that it has never seen, over HTTP:\n")
        await self._classify(images[:SHOWN], labels[:SHOWN])
        tally = await self._swap_under_load(room, digits, images)
        print("\nThe same digits again:\n")
        await self._classify(images[:SHOWN], labels[:SHOWN])
        if not self._once:
            self._print_how_to_go_on(images[0])
            await self._stop.wait()
        return 1 if tally.failed else 0

    async def _classify(self, images: Any, labels: Any) -> None:
        connection = Connection(self._port)
        captions = []
        for image, label in zip(images, labels, strict=True):
            start = time.perf_counter()
            status, answer = await connection.post(f"/v1/models/{MODEL}:predict", {"instances": [_as_input(image)]})
            took = time.perf_counter() - start
            if status != 200:
                raise DemoFailed(f"want an answer, got {status}: {answer}")
            says = int(np.argmax(answer["predictions"][0]))
            captions.append((f"says {says}, is {label}", f"{took * 1000:.1f} ms"))
        connection.close()
        _draw(images, captions)

    async def _swap_under_load(self, room: Path, digits: Path, images: Any) -> Tally:
        tally, over = Tally(), asyncio.Event()
        inputs = [_as_input(image) for image in images]
        load = [
            asyncio.create_task(ask_again_and_again(self._port, tally, over, inputs[each::CLIENTS]))
            for each in range(CLIENTS)
        ]
        start = time.monotonic()
        await asyncio.sleep(BEFORE_S)
        print(f"\nPublishing version 2 while {CLIENTS} clients keep asking ...")
        published = time.monotonic()
        await asyncio.to_thread(_publish, digits / "2", room / "models" / MODEL / "2")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(tally.swapped.wait(), SWAP_WITHIN_S)
        swapped = time.monotonic()
        await asyncio.sleep(AFTER_S)
        over.set()
        await asyncio.gather(*load)
        if not tally.versions["2"]:
            raise DemoFailed(f"version 2 did not answer within {SWAP_WITHIN_S:g} s")
        answered = ", ".join(f"{count} by version {version}" for version, count in sorted(tally.versions.items()))
        print(f"  {tally.sent} requests sent, {tally.failed} failed; answered: {answered}")
        if tally.failed:
            print(f"  last failure: {tally.last_failure}")
        before, during = tally.p99(start, published), tally.p99(published, swapped + AFTER_S / 2)
        print(f"  version 2 answered {swapped - published:.2f} s after it was published")
        print(f"  p99 {before * 1000:.1f} ms before the swap, {during * 1000:.1f} ms during it")
        return tally

    def _print_how_to_go_on(self, image: Any) -> None:
        url = f"http://127.0.0.1:{self._port}"
        body = json.dumps({"instances": [_as_input(image)]}, separators=(",", ":"))
        print(f"\nAsk it yourself:\n\n  curl -d '{body}' {url}/v1/models/{MODEL}:predict\n")
        print(f"Its page: {url}/        Ctrl-C stops it.", flush=True)


@contextlib.contextmanager
def _shipped() -> Iterator[Path]:
    with as_file(files("edge") / "data" / "digits") as path:
        yield path


def _publish(version: Path, target: Path) -> None:
    """As a publisher should: the directory appears whole, by rename."""
    staging = target.with_name(f".{target.name}.new")
    shutil.copytree(version, staging)
    staging.rename(target)


def _as_input(image: Any) -> Any:
    """Pixels 0..16 of [8,8] → the model's int8 [8,8,1]: its scale is 16/255, its zero point -128."""
    values = np.clip(np.round(image.astype(np.float32) * 255 / 16) - 128, -128, 127).astype(int)
    return values[..., None].tolist()


def _draw(images: Any, captions: Sequence[tuple[str, str]]) -> None:
    shades = SHADES
    try:
        SHADES.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        shades = PLAIN_SHADES
    for row in range(images.shape[1]):
        cells = ["".join(shades[min(4, int(pixel) // 4)] * 2 for pixel in image[row]) for image in images]
        print("  " + "   ".join(cells).rstrip())
    for line in range(2):
        print("  " + "   ".join(caption[line].ljust(16) for caption in captions).rstrip())


def _last_words(room: Path) -> str:
    """The end of the server's log, on lines of its own."""
    lines = (room / LOG).read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "".join(f"\n  {line}" for line in lines)


def _free_port(wanted: Sequence[int]) -> int:
    """The first that nobody listens on: whoever does would be taken for the demo's server. Raises DemoFailed."""
    for port in wanted:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed(f"port {wanted[0]} of 127.0.0.1 is taken; without --port a free one is used")


async def _end(server: asyncio.subprocess.Process) -> None:
    if server.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        try:
            await asyncio.wait_for(server.wait(), 15)
        except TimeoutError:
            server.kill()
            await server.wait()
