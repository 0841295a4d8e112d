"""A Mosquitto of one's own, on a free port of the loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTED_WITHIN_S = 10.0
STEP_S = 0.01
SETTINGS = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 10000
"""


@contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """Its port. Raises FileNotFoundError where there is no Mosquitto, TimeoutError where it does not come up."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise FileNotFoundError("mosquitto: want it in PATH")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    file = directory / "mosquitto.conf"
    file.write_text(SETTINGS.format(port=port))
    process = subprocess.Popen([program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=STEP_S).close()
        except OSError:
            time.sleep(STEP_S)
        else:
            return
    raise TimeoutError(f"mosquitto does not listen on {port} after {STARTED_WITHIN_S} s")
