"""Versions of a SavedModel behind one name: shared out by weights, and one that is asked what another answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.repository import reach
from tests.functional.server import Running, serving
from tests.gpu import saved
from tests.gpu.test_serving import WITHIN_S, workers
from tests.waiting import until_blocking

pytestmark = pytest.mark.timeout(400)
ONE = {"instances": [[1.0, 2.0]]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """Version 1 doubles and has half of the requests, 2 triples and has the other, 3 triples and is the shadow."""
    (tmp_path / "m").mkdir()
    for version, factor in ((1, 2.0), (2, 3.0), (3, 3.0)):
        saved.scaling(tmp_path / "m" / str(version), factor)
    config = tmp_path / "edge.toml"
    config.write_text(
        "[server]\ntrial_timeout_s = 150\n"
        f'[models.m]\npath = "{tmp_path / "m"}"\npolicy = "all"\nweights = {{ 1 = 1, 2 = 1 }}\nshadow = "3"\ninstances = 1\n'
    )
    with serving(tmp_path, "--config", config, ready=False) as running:
        reach(running, "m", v1="ready", v2="ready", v3="ready")
        yield running


def copies(server: Running, result: str) -> float:
    """Of requests, that version 3 has run."""
    wanted = f'edge_shadow_copies_total{{model="m",result="{result}",version="3"}} '
    lines = server.ask("/metrics")[1].decode().splitlines()
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def test_a_key_keeps_its_version_and_a_shadow_is_compared_with_both(server: Running) -> None:
    answers: dict[str, set[str]] = {}

    def compared() -> bool:
        for key in map(str, range(8)):
            answer = server.json("/v1/models/m:predict", ONE, {"x-edge-key": key})
            answers.setdefault(key, set()).add(json.dumps(answer["predictions"]))
        return bool(copies(server, "same") and copies(server, "different"))

    until_blocking(compared, server.log.read_text, within_s=WITHIN_S)
    assert all(len(each) == 1 for each in answers.values()), answers
    assert set.union(*answers.values()) == {"[[2.0, 4.0]]", "[[3.0, 6.0]]"}
    assert len(workers(server)) == 4, "one of each version, and one that copies run in"
