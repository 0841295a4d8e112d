"""`kill -9` of the agent, of the server and of both, at random moments of updates from one version to the next.

While somebody asks all the time: each answer is one of a complete version, none fails but while the server is dead, what
is on the disk is whole after each kill, and the version that is wanted is committed in the end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync.domain.rollout import Probation
from tests.functional.device import Asker, Device, Operator

PROBATION = Probation(seconds=0.5, min_requests=1, max_p99_ratio=1e6)
VICTIMS = ("agent", "server", "both")
BEYOND = 1.1
"""Kills fall within so much of the time that an update was seen to take."""


@dataclass
class World:
    operator: Operator
    device: Device
    asker: Asker

    def update(self, version: int, kills: list[tuple[float, str]]) -> float:
        """Roll the version out; kill whom at so many seconds from then on. Seconds until it was committed."""
        self.asker.complete |= {version}
        self.operator.roll_out(version, PROBATION)
        began = time.monotonic()
        for at, victim in sorted(kills):
            time.sleep(max(0.0, began + at - time.monotonic()))
            self._kill(victim)
        self.device.until_it_runs(version)
        took = time.monotonic() - began
        self.asker.complete = frozenset({version})
        return took

    def _kill(self, victim: str) -> None:
        server, agent = victim in ("server", "both"), victim in ("agent", "both")
        self.device.kill(server=server, agent=agent)
        self.device.check_disk()
        if agent:
            self.device.start_agent()
        if server:
            self.device.start_server()
            self.device.wait_ready()


@contextmanager
def world(tmp_path: Path, versions: int) -> Iterator[World]:
    """All versions are published, the first one serves."""
    operator = Operator(tmp_path)
    for version in range(1, versions + 1):
        operator.publish(version)
    with Asker() as asker, closing(Device(tmp_path / "device", operator, asker)) as device:
        made = World(operator, device, asker)
        device.start_server()
        device.start_agent()
        made.update(1, [])
        device.wait_ready()
        yield made
        device.stop()
    assert asker.wrong == []


def run(tmp_path: Path, seed: int, updates: int, most_kills: int) -> None:
    chance = random.Random(seed)
    with world(tmp_path, updates + 2) as w:
        usual_s = w.update(2, [])
        for version in range(3, updates + 3):
            # One death of the server at most: the second one inside a probation is the new version's end, and meant so.
            victims = [VICTIMS[version % len(VICTIMS)], *("agent" for _ in range(chance.randrange(most_kills)))]
            kills = [(chance.uniform(0.0, BEYOND * usual_s), victim) for victim in victims]
            print(f"version {version}: {kills}")
            w.update(version, kills)
            w.device.check_disk()
        assert set(w.asker.right) == set(range(1, updates + 3)), "each version has answered"


def test_whoever_is_killed_in_an_update_the_right_version_answers_and_the_wanted_one_is_committed(
    tmp_path: Path,
) -> None:
    run(tmp_path, seed=1, updates=4, most_kills=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_however_often_they_are_killed(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, updates=25, most_kills=2)
