"""A small Debian that boots systemd in a container of this machine's kernel, for root alone.

Rule 1: the base system and the wheels are made once, outside the tree, and kept; each run boots a copy. Rule 2: the machine has
a network of its own, with nothing in it. Rule 3: it ends with the tests, however they end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.waiting import until_blocking

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,udev,python3,python3-venv"
CACHE = Path(tempfile.gettempdir()) / f"edge-machine-{SUITE}"
SOURCE, WHEELS = "/usr/src/edge", "/wheels"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAKE_WITHIN_S, BOOT_WITHIN_S, RUN_WITHIN_S, HALT_WITHIN_S = 600.0, 60.0, 120.0, 30.0


def base(debootstrap: str) -> Path:
    """The directory of the base system; it takes a minute to make."""
    made = CACHE / "root"
    if not made.exists():
        part = CACHE / "root.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", SUITE, str(part)]
        subprocess.run(command, check=True, timeout=MAKE_WITHIN_S, stdout=subprocess.DEVNULL)
        part.rename(made)
    return made


def wheels() -> Path:
    """A directory with all that the server and the agent are installed from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins, build = project["tool"]["uv"]["constraint-dependencies"], project["build-system"]["requires"]
    wanted = [*project["project"]["dependencies"], *build]
    name = hashlib.sha256(json.dumps([pins, wanted, sys.version_info[:2]]).encode()).hexdigest()[:16]
    made = CACHE / f"wheels-{name}"
    if not made.exists():
        with tempfile.TemporaryDirectory() as beside:
            place = Path(beside)
            subprocess.run([sys.executable, "-m", "venv", str(place / "pip")], check=True, timeout=MAKE_WITHIN_S)
            (place / "pins").write_text("\n".join(pins))
            pip = [str(place / "pip/bin/pip"), "download", "-q", "--only-binary=:all:", "--ignore-requires-python"]
            command = [*pip, "-c", str(place / "pins"), "-d", str(place / "wheels"), *wanted]
            subprocess.run(command, check=True, timeout=MAKE_WITHIN_S)
            CACHE.mkdir(exist_ok=True)
            part = CACHE / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(place / "wheels", part)
            part.rename(made)
    return made


class Machine:
    """Booted between `with`. `run` runs a program as its root; `shared`: directories of here that it sees, read-only."""

    def __init__(self, nspawn: str, root: Path, log: Path, shared: dict[Path, str]) -> None:
        self.root, self.log = root, log
        binds = [f"--bind-ro={here}:{there}" for here, there in shared.items()]
        # It may not outlive the tests, even if those are killed.
        self._command = ["setpriv", "--pdeathsig", "KILL", nspawn, "-q", "-D", str(root), "-b", "--register=no"]
        self._command += ["--keep-unit", "--private-network", *binds]
        self._open = ExitStack()
        self._leader = 0

    def __enter__(self) -> Machine:
        log = self._open.enter_context(self.log.open("wb"))
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._open.callback(self._halt)
        try:
            until_blocking(self._booted, self.log.read_text, within_s=BOOT_WITHIN_S)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _booted(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        with suppress(subprocess.SubprocessError):
            state = self.run("systemctl", "is-system-running", check=False, within_s=5).stdout.strip()
            return state in ("running", "degraded")
        return False

    def _halt(self) -> None:
        with suppress(subprocess.SubprocessError, AssertionError):
            self.run("systemctl", "poweroff", check=False, within_s=10)
        try:
            self.process.wait(HALT_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def entering(self, *command: str) -> list[str]:
        """The command line that runs a program there."""
        assert self._leader, "not booted"
        clean = ["env", "-i", f"PATH={PATH}", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}"]
        return ["nsenter", "-t", str(self._leader), "-a", *clean, "sh", "-c", 'cd / && exec "$@"', "sh", *command]

    def run(
        self, *command: str, check: bool = True, within_s: float = RUN_WITHIN_S, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """What it printed. Raises AssertionError where it fails, unless told otherwise."""
        done = subprocess.run(
            self.entering(*command), capture_output=True, text=True, timeout=within_s, check=False, input=given
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check).stdout.strip()

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", given=text)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.sh(f"systemctl show --value -p {name} {unit}")

    def ask(
        self, target: str, body: str | None = None, *, uds: str = "", headers: dict[str, str] | None = None
    ) -> Asked:
        """From within: a TCP port of loopback in `target` (":8501/v2"), or a Unix socket and a path."""
        said = self.run("python3", "-c", _ASK, uds, target, json.dumps(body), json.dumps(headers or {})).stdout
        return Asked(**json.loads(said))

    def journal(self, unit: str) -> str:
        return self.sh(f"journalctl --no-pager -q -u {unit} | tail -n 40", check=False)


class Asked:
    def __init__(self, status: int, text: str, took_s: float) -> None:
        self.status, self.text, self.took_s = status, text, took_s

    def json(self) -> Any:
        return json.loads(self.text)


_ASK = """
import http.client, json, socket, sys, time
uds, target, body, headers = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
if uds:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(uds)
else:
    port, _, path = target[1:].partition("/")
    target = "/" + path
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
start = time.monotonic()
connection.request("POST" if body is not None else "GET", target, body, headers)
answer = connection.getresponse()
text = answer.read().decode()
print(json.dumps({"status": answer.status, "text": text, "took_s": time.monotonic() - start}))
"""


def ended(process: subprocess.Popen[str]) -> str:
    """What a program printed that was told to end, by the end of its input."""
    try:
        return process.communicate(timeout=RUN_WITHIN_S)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise
