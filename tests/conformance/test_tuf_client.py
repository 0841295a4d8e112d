"""The TUF project's client conformance suite on the agent's trust module, and its command line without the suite.

The suite is not on the package index: name a checkout in TUF_CONFORMANCE, and have `faketime` installed. Source:
https://github.com/theupdateframework/tuf-conformance
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sync.trust.world import ROLLOUT, World

CLIENT = Path(__file__).with_name("tuf_client")
SUITE_S = 900
TESTS = 113
"""So many did the suite have when all of them had passed; fewer would mean that it did not run whole."""


@pytest.mark.timeout(SUITE_S)
def test_the_conformance_suite_passes() -> None:
    checkout = os.environ.get("TUF_CONFORMANCE")
    if not checkout:
        pytest.skip("TUF_CONFORMANCE names no checkout of tuf-conformance: THE CONFORMANCE SUITE WAS NOT RUN")
    if shutil.which("faketime") is None:
        pytest.skip("there is no faketime: THE CONFORMANCE SUITE WAS NOT RUN")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tuf_conformance"]
    command += ["--entrypoint", f"{sys.executable} {CLIENT}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=SUITE_S, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    summary = done.stdout.strip().splitlines()[-1]
    passed = re.search(r"(\d+) passed", summary)
    assert passed is not None
    assert int(passed.group(1)) >= TESTS, summary
    assert not re.search(r"skipped|xfailed|failed", summary), summary


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of a web server for the directory `store`."""
    handler = functools.partial(Handler, directory=str(tmp_path / "store"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def client(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CLIENT), "--metadata-dir", str(tmp_path / "metadata"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def put(world: World) -> None:
    """The repository, as it is now, where the web server finds it; judged by real clocks it must not have expired."""
    for path, data in world.store.objects.items():
        (world.path / "store" / path).parent.mkdir(parents=True, exist_ok=True)
        (world.path / "store" / path).write_bytes(data)


async def test_its_command_line_initializes_refreshes_downloads_and_fails_with_1(tmp_path: Path, url: str) -> None:
    world = World.now_by_the_clock(tmp_path)
    await world.create()
    await world.publish("rollouts", ROLLOUT, b"rollout 1")
    put(world)
    root = tmp_path / "root.json"
    root.write_bytes(world.root)
    assert client(tmp_path, "init", str(root)).returncode == 0
    metadata = ("--metadata-url", f"{url}/metadata")
    done = client(tmp_path, *metadata, "refresh")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "metadata").glob("*.json")} == {
        "root.json", "timestamp.json", "snapshot.json", "targets.json"
    }  # fmt: skip
    targets = tmp_path / "targets"
    targets.mkdir()
    wanted = (*metadata, "--target-base-url", f"{url}/targets", "--target-dir", str(targets))
    done = client(tmp_path, *wanted, "--target-name", ROLLOUT, "download")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in targets.iterdir()] == [b"rollout 1"]
    done = client(tmp_path, *wanted, "--target-name", "rollouts/other.json", "download")
    assert (done.returncode, "nobody has signed one" in done.stderr) == (1, True)
    (tmp_path / "store" / "metadata" / "timestamp.json").write_bytes(b"{}")
    done = client(tmp_path, *metadata, "refresh")
    assert (done.returncode, "trust_signature" in done.stderr) == (1, True)
