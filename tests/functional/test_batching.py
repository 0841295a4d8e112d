"""Requests share runs in a server that is asked over HTTP: whoever they share with, and while versions change."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tflite_models
from tests.functional.server import Running, configuration, serving
from tests.functional.zoo import publish
from tests.waiting import until_blocking

CLIENTS, ROUNDS = 16, 40
BEYOND = 99
"""An index that the model's table has not: its run fails."""


def table(version: int) -> list[float]:
    return [version * 1000.0 + at for at in range(CLIENTS)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """`pick` looks up a number by its index, up to eight at once, on one thread; `kept` the same, with answers kept."""
    for name in ("pick", "kept"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.tflite").write_bytes(tflite_models.picking(table(1)))
    config = tmp_path / "edge.toml"
    configuration(config, {name: tmp_path / name for name in ("kept", "pick")})
    text = config.read_text().replace("[models.kept]\n", "[models.kept]\ncache_bytes = 65536\n")
    config.write_text(text + 'lane = "thread"\ninstances = 1\nmax_batch_size = 8\nbatch_timeout_s = 0.002\n')
    with serving(tmp_path, "--config", config) as running:
        yield running


def metric(server: Running, name: str, **labels: str) -> float:
    """The sum over all samples of that name with those labels."""
    total = 0.0
    for line in server.ask("/metrics")[1].decode().splitlines():
        found = re.fullmatch(rf"{name}{{(.*)}} (\S+)", line)
        if found and all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
            total += float(found[2])
    return total


def test_many_clients_share_runs_with_bad_requests_among_theirs_and_lose_nothing_in_a_swap(
    server: Running, tmp_path: Path
) -> None:
    wrong: list[object] = []
    seen: set[float] = set()
    swapped = threading.Event()

    def ask(client: int) -> None:
        done = 0
        while done < ROUNDS or not swapped.is_set():
            bad = (client + done) % 10 == 0
            code, said = server.ask("/v1/models/pick:predict", {"inputs": [BEYOND if bad else client]})
            done += 1
            if bad != (code != 200):
                wrong.append((code, said))
            elif not bad:
                (value,) = json.loads(said)["outputs"]
                seen.add(value // 1000)
                if value % 1000 != client:
                    wrong.append((client, value))

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        until_blocking(lambda: metric(server, "edge_batch_size_count", model="pick") > 20, server.log.read_text)
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "model.tflite").write_bytes(tflite_models.picking(table(2)))
        publish(tmp_path / "new", tmp_path / "pick" / "2")
        until_blocking(lambda: server.ask("/v1/models/pick/versions/2")[0] == 200 and 2.0 in seen)
    finally:
        swapped.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert seen == {1.0, 2.0}
    rows, count = (metric(server, f"edge_batch_size_{part}", model="pick") for part in ("sum", "count"))
    assert rows > count > 0


def test_what_was_answered_is_answered_again_without_a_run_and_only_the_metrics_say_so(server: Running) -> None:
    answers = [server.ask("/v1/models/kept:predict", {"inputs": [3]}) for _ in range(3)]
    assert answers == [(200, answers[0][1])] * 3
    assert json.loads(answers[0][1]) == {"outputs": [1003.0]}
    assert metric(server, "edge_cache_lookups_total", model="kept", result="hit") == 2
    assert metric(server, "edge_cache_lookups_total", model="kept", result="miss") == 1
    assert metric(server, "edge_cache_bytes", model="kept") > 0
    assert metric(server, "edge_cache_lookups_total", model="pick") == 0
