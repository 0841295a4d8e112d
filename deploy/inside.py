"""Runs an image as a container runtime would: its user, its environment, its commands, a root that cannot be written to.

Rule 1: mounts and processes lie in name spaces that end with the command: nothing is left behind. Rule 2: only its volumes
can be written to. Rule 3: on another processor than arm64 it sees a board's (`processors`) in place of this machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import processors

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 30.0
COMMAND_LIMIT_S = 120.0
ZERO = """
0 0 5 13 9 1 0 0   0 0 13 15 10 15 5 0   0 3 15 2 0 11 8 0   0 4 12 0 0 8 8 0
0 5 8 0 0 9 8 0    0 4 11 0 1 12 7 0     0 2 14 5 10 12 0 0  0 0 6 13 10 0 0 0"""

# $1 the root, $2 what stands for volumes and the kernel, $3 the user, then the command.
SETUP = """set -eu
root=$1 place=$2 user=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ -d "$place/sys" ]; then
  mount --bind "$place/sys" "$root/sys"; mount --bind "$place/proc/cpuinfo" "$root/proc/cpuinfo"
else
  mount --rbind /sys "$root/sys"
fi
for volume in var/lib/edge run/edge; do mount --bind "$place/$volume" "$root/$volume"; done
exec chroot --userspec="$user" "$root" "$@"
"""


class Image:
    def __init__(self, root: Path, config: dict[str, Any], place: Path) -> None:
        self._root, self._config, self._place = root, config, place
        user, _, group = config["User"].partition(":")
        for volume in config["Volumes"]:
            own = place / volume.lstrip("/")
            shutil.copytree(root / volume.lstrip("/"), own, dirs_exist_ok=True)
            for each in (own, *own.rglob("*")):
                os.chown(each, int(user), int(group))
        if os.uname().machine != "aarch64":
            processors.describe(place)

    def command(self, words: list[str], **environment: str) -> list[str]:
        """What runs the words in it, as its user."""
        told = [*self._config["Env"], f"QEMU_CPU={processors.EMULATED}"]
        told += [f"{name}={value}" for name, value in environment.items()]
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        places = [str(self._root), str(self._place), self._config["User"]]
        return [*own, "sh", "-c", SETUP, "sh", *places, "/usr/bin/env", "-i", *told, *words]

    def said(self, *words: str) -> str:
        """Raises CalledProcessError, TimeoutExpired."""
        return subprocess.run(
            self.command([*words]), check=True, stdout=subprocess.PIPE, text=True, timeout=COMMAND_LIMIT_S
        ).stdout

    @contextmanager
    def serving(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Its own command, told another port; ended by its own signal. Raises CalledProcessError where that fails."""
        words = [*self._config["Entrypoint"], *self._config["Cmd"]]
        process = subprocess.Popen(self.command(words, EDGE_HTTP__PORT=str(port)))
        try:
            yield process
            # The name spaces' first process is the server, its child: a signal to unshare would not reach it.
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), getattr(signal, self._config.get("StopSignal") or "SIGTERM"))
            if code := process.wait(STOP_WITHIN_S):
                raise subprocess.CalledProcessError(code, words)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def try_image(root: Path, config: dict[str, Any], digits: Path) -> None:
    """Says what it found. Raises CalledProcessError, TimeoutError, AssertionError."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(digits, Path(place, "var/lib/edge/models/digits"))
        image = Image(root, config, Path(place))
        print(f"user {config['User']}; {', '.join(image.said('edge', 'version').splitlines()[1:5])}")
        print(f"agent: {image.said('edge-sync', '--version').strip()}")
        image.said("python3", "-c", "import os, sys; sys.exit(not os.statvfs('/').f_flag & os.ST_RDONLY)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        url, began = f"http://127.0.0.1:{port}", time.monotonic()
        with image.serving(port) as process:
            _until_ready(url, process)
            print(f"ready after {time.monotonic() - began:.1f} s")
            image.said(*config["Healthcheck"]["Test"][1:], "--url", url)
            print("health: 0")
            print(f"a zero is told to be: {_ask(url)}")
        print("stopped by its signal, status 0")


def _until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"the image did not serve within {READY_WITHIN_S:g} s, or ended ({process.poll()})")


def _ask(url: str) -> str:
    body = {
        "inputs": [
            {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": [float(x) for x in ZERO.split()]}
        ],
        "parameters": {"dequantize": True},
        "outputs": [{"name": "scores", "parameters": {"classification": 1}}],
    }
    with urllib.request.urlopen(f"{url}/v2/models/digits/infer", json.dumps(body).encode(), timeout=60) as answer:
        (said,) = json.load(answer)["outputs"][0]["data"]
    assert said.endswith(":zero"), said
    return str(said)
