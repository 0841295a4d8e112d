"""A whole device with its operator: a signed store, a real server, a real agent, and somebody who asks all the time.

Version v of the model `m` answers v times what it was asked, so that each answer says which version made it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from edge.domain.layout import parse_aspired
from edge.domain.tensors import DType
from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.domain.journal import ModelState, Phase
from sync.domain.layout import rollout_name
from sync.domain.rollout import FORMAT, ModelRollout, Probation, Rollout, encode
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.publish import Wanted, publish
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore
from tests.functional.server import Running, serving
from tests.tflite_models import Graph, Sig, T, constant, make, times
from tests.waiting import until_blocking

MODEL, FILE = "m", "model.tflite"
PAD_BYTES = 200_000
LIMIT_BPS = 150_000
"""The agent's: with it a whole version is on its way for a moment in which something can be killed."""
BETWEEN_REQUESTS_S = 0.01


def version_bytes(version: int) -> bytes:
    """Two versions each share what they carry: the second comes as a patch, the next as a whole."""
    pad = np.frombuffer(np.random.default_rng(version // 2).bytes(PAD_BYTES), np.uint8)
    tensors = [
        T("x", shape=(1,)),
        constant("factor", [float(version)]),
        T("y", shape=(1,)),
        T("pad", DType.UINT8, (PAD_BYTES,), pad),
    ]
    return make([Graph(tensors, [0], [2], [times(0, 2, 1)])], [Sig({"x": 0}, {"y": 2})])


class Operator:
    """Has all keys; publishes into a directory."""

    def __init__(self, path: Path) -> None:
        self.path, self.store = path, DirectoryStore(path / "store")
        self._keys, self._seq = KeyRing(path / "keys"), 0
        for role in ROLES.values():
            self._keys.make(role)
        (path / "root.json").write_bytes(asyncio.run(Repository(self.store, self._keys).create()))

    def publish(self, version: int) -> None:
        given = self.path / "given" / str(version)
        given.mkdir(parents=True)
        (given / FILE).write_bytes(version_bytes(version))

        async def work() -> None:
            repository = Repository(self.store, self._keys)
            await repository.open()
            await publish(repository, self.store, Wanted(MODEL, version, given))

        asyncio.run(work())

    def roll_out(self, version: int, probation: Probation) -> None:
        """Everybody is to run it."""
        self._seq += 1
        document = Rollout(FORMAT, "default", self._seq, {MODEL: ModelRollout(version, probation=probation)}, 0.0)

        async def work() -> None:
            repository = Repository(self.store, self._keys)
            await repository.open()
            change = Transaction()
            change.put("rollouts", rollout_name("default"), encode(document))
            await repository.commit(change)

        asyncio.run(work())


@dataclass
class Asker:
    """Asks the server for one answer after the other, on one connection after the other.

    `complete`: the versions that may answer now. `wrong`: answers that no version gives, and refusals while nobody was
    killed. `away`: the server is dead or on its way up.
    """

    port: int = 0
    away: bool = True
    complete: frozenset[int] = frozenset()
    wrong: list[str] = field(default_factory=list)
    right: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ends.wait(BETWEEN_REQUESTS_S):
            number += 1
            away = self.away
            try:
                said = self._ask(float(number % 1000 + 1))
            except (OSError, http.client.HTTPException) as error:
                said = f"{type(error).__name__}: {error}"
                if away or self.away:
                    continue
            if said:
                self.wrong.append(f"{time.monotonic():.3f} {said}")

    def _ask(self, x: float) -> str:
        """What is wrong with the answer; "" for nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [x]}]}
            before, away = self.complete, self.away
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            # It was away when it was asked, or is: it may have come up in between.
            return "" if (away or self.away) and answer.status in (404, 503) else f"{answer.status} {content!r}"
        document = json.loads(content)
        version, (y,) = int(document["model_version"]), document["outputs"][0]["data"]
        if version not in before | self.complete or y != version * x:
            return f"version {version} says {y} of {x}, want one of {sorted(before | self.complete)}"
        self.right[version] = self.right.get(version, 0) + 1
        return ""


class Device:
    """`start_*` after `kill_*`, as often as may be; `close` leaves no process behind."""

    def __init__(self, path: Path, operator: Operator, asker: Asker) -> None:
        self.path, self._asker = path, asker
        self.models, self.state_dir = path / "models", path / "sync"
        self.models.mkdir(parents=True)
        self.server: Running | None = None
        self._served = ExitStack()
        self.agent: subprocess.Popen[bytes] | None = None
        self.agent_log = path / "agent.log"
        self.config = path / "agent.toml"
        self.config.write_text(
            f'[device]\nid = "dev-1"\n[store]\nurl = "{operator.store.name}"\nroot = "{operator.path / "root.json"}"\n'
            f'[paths]\nstate_dir = "{self.state_dir}"\nmodels_dir = "{self.models}"\nephemeral = true\n'
            f'admin_uds = "{path / "admin.sock"}"\n'
            f"[poll]\nevery_s = 0.2\nmax_s = 0.5\n[network]\nlimit_Bps = {LIMIT_BPS}\n"
        )

    def start_server(self) -> None:
        self._served = ExitStack()
        self.server = self._served.enter_context(serving(self.path, self.models, ready=False))
        self._asker.port = self.server.port

    def start_agent(self) -> None:
        with self.agent_log.open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "sync", "agent", "run", "--config", str(self.config), "--watch-s", "0.05"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("EDGE_SYNC_")},
            )

    def wait_ready(self) -> None:
        assert self.server is not None
        self.server.wait_ready()
        self._asker.away = False

    def kill(self, *, server: bool = False, agent: bool = False) -> None:
        """SIGKILL. What the server had begun, it takes with it."""
        children: list[psutil.Process] = []
        if server and self.server is not None:
            self._asker.away = True
            children = psutil.Process(self.server.process.pid).children(recursive=True)
            self.server.process.kill()
        if agent and self.agent is not None:
            self.agent.kill()
            self.agent.wait()
            self.agent = None
        if server and self.server is not None:
            self.server.process.wait()
            self._served.close()
            self.server = None
            _, alive = psutil.wait_procs(children, timeout=20)
            assert not alive, f"left behind by the server: {alive}"

    def stop(self) -> None:
        """Both by SIGTERM, which must succeed; an agent that was started just now may not listen to it yet."""
        if self.agent is not None:
            self.agent.terminate()
            assert self.agent.wait(20) in (0, -signal.SIGTERM), self.agent_log.read_text()
            self.agent = None
        self._asker.away = True
        self._served.close()
        self.server = None

    def close(self) -> None:
        """Whatever happened before."""
        for process in (self.agent, self.server.process if self.server is not None else None):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    # -- what is on the disk

    @property
    def state(self) -> ModelState:
        file = JournalFile(OsFiles(), self.state_dir / "state.json", self.models)
        return file.peek().models.get(MODEL, ModelState())

    def runs(self, version: int) -> bool:
        """It is committed, and nothing is under way."""
        state = self.state
        committed = state.outcome in ("committed", "committed_idle") and state.phase is Phase.IDLE
        return committed and state.active is not None and state.active.version == version

    def until_it_runs(self, version: int, within_s: float = 120.0) -> None:
        until_blocking(lambda: self.runs(version), self.about, within_s=within_s)

    def about(self) -> str:
        log = self.server.log.read_text() if self.server is not None else ""
        return f"{self.state}\n{self.agent_log.read_text()[-4000:]}\n{log[-4000:]}"

    def check_disk(self) -> None:
        """Whatever was killed: the journal can be read, and every version that is there is whole."""
        assert self.state is not None
        versions = [each for each in (self.models / MODEL).glob("*") if each.name.isdigit()]
        for each in versions:
            try:
                found = (each / FILE).read_bytes()
            except FileNotFoundError:  # the agent clears up, and a version goes whole
                assert not each.exists(), each
            else:
                assert found == version_bytes(int(each.name)), each
        aspired = self.models / MODEL / "aspired.json"
        if aspired.exists():
            told = parse_aspired(aspired.read_bytes())
            there = {int(each.name) for each in versions}
            assert {*told.versions, told.fallback} - {None} <= there, f"told {told}, there are {there}"
