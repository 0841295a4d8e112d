"""Two processes of two users, and a stranger: who may what, whatever the umask. Wants root, to become each of them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT, SERVER, STRANGER = 61_001, 61_002, 61_003
EDGE, OTHERS = 61_000, 61_009
ROOT = Path(__file__).parents[4]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root: nothing was tested of who may read and write what")


@pytest.fixture
def device() -> Iterator[Path]:
    """As a package installs it: directories of the agent's, in the server's group."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    for name in ("state", "models"):
        (base / name).mkdir()
        os.chown(base / name, AGENT, EDGE)
        (base / name).chmod(0o750)
    yield base
    shutil.rmtree(base)


def tried(base: Path, uid: int, gid: int, role: str, *groups: int, umask: int = 0o022) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.unit.sync.agent.as_user", str(uid), str(gid), role, str(base)]
    command += map(str, groups)
    done = subprocess.run(command, cwd=ROOT, umask=umask, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000], ids=oct)
def test_the_server_reads_what_the_agent_made_and_nobody_else_does_whatever_the_umask(device: Path, umask: int) -> None:
    assert not any(tried(device, AGENT, EDGE, "agent", umask=umask).values())
    server = tried(device, SERVER, EDGE, "server")
    able = {name for name, error in server.items() if not error}
    assert able == {"read aspired", "list", "read model"}, server
    assert all("PermissionError" in error for name, error in server.items() if name not in able)
    stranger = tried(device, STRANGER, OTHERS, "stranger")
    assert all("PermissionError" in stranger[name] for name in ("list", "read model", "read journal")), stranger


def test_a_member_of_the_group_is_read_by_the_server_where_its_directories_hand_down_theirs(device: Path) -> None:
    for name in ("state", "models"):
        (device / name).chmod(0o2750)
    assert not any(tried(device, AGENT, OTHERS, "agent", EDGE, umask=0o077).values())
    assert (device / "models/m/1").stat().st_mode & 0o7777 == 0o2750
    server = tried(device, SERVER, EDGE, "server")
    assert not any(server[name] for name in ("read aspired", "list", "read model")), server


def test_the_admin_socket_is_for_the_group_alone(device: Path) -> None:
    run = device / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(run / "admin.sock"))
        listening.listen()
        for path, mode in ((run, 0o750), (run / "admin.sock", 0o660)):
            os.chown(path, SERVER, EDGE)
            path.chmod(mode)
        assert tried(device, AGENT, EDGE, "client") == {"connect": ""}
        assert tried(device, AGENT, OTHERS, "client", EDGE) == {"connect": ""}
        assert "PermissionError" in tried(device, STRANGER, OTHERS, "client")["connect"]
