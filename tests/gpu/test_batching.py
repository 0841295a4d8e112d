"""SavedModels share runs without being told to, where their rows have nothing to do with each other."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.functional.server import Running, configuration, serving
from tests.gpu import saved
from tests.waiting import until_blocking

WITHIN_S = 150.0
pytestmark = pytest.mark.timeout(400)


def centred(path: Path) -> Path:
    """Each row less the mean of all rows: what it answers depends on who else is asked."""
    return saved.save(
        path,
        tf.Module(),
        serving_default=saved.function(lambda x: {"y": x - tf.reduce_mean(x, axis=0)}, saved.spec([None, 2])),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("batching")
    for name in ("scale", "centred", "alone"):
        (root / name).mkdir()
    saved.scaling(root / "scale" / "1", 2.0)
    centred(root / "centred" / "1")
    saved.scaling(root / "alone" / "1", 2.0)
    config = root / "edge.toml"
    configuration(config, {name: root / name for name in ("scale", "centred", "alone")})
    config.write_text(config.read_text() + "max_batch_size = 1\n")
    with serving(root, "--config", config, ready=False) as running:
        until_blocking(lambda: running.ask("/v2/health/ready")[0] == 200, running.log.read_text, within_s=WITHIN_S)
        yield running


def runs(server: Running, model: str) -> tuple[float, float]:
    """How many runs could be shared, and their rows."""
    text = server.ask("/metrics")[1].decode()
    pattern = rf'^edge_batch_size_{{}}{{{{model="{model}",version="1"}}}} (\S+)'
    found = [re.search(pattern.format(part), text, re.MULTILINE) for part in ("count", "sum")]
    return float(found[0][1]) if found[0] else 0.0, float(found[1][1]) if found[1] else 0.0


def ask_all(server: Running, model: str, answer: Any) -> None:
    """16 clients, 15 requests each, one in ten of them of a shape that is refused; `answer(x)` is what each should get."""
    wrong: list[Any] = []

    def ask(client: int) -> None:
        for n in range(15):
            x = float(client * 100 + n)
            if (client + n) % 10 == 0:
                code, said = server.ask(f"/v1/models/{model}:predict", {"instances": [[x, x, x]]})
                if code != 400:
                    wrong.append((code, said))
                continue
            code, said = server.ask(f"/v1/models/{model}:predict", {"instances": [[x, -x]]})
            if code != 200 or json.loads(said) != {"predictions": [answer(x)]}:
                wrong.append((code, said))

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


def test_requests_of_many_clients_share_runs_and_each_gets_its_own_row(server: Running) -> None:
    before = runs(server, "scale")
    ask_all(server, "scale", lambda x: [2 * x, -2 * x])
    count, rows = (after - was for after, was in zip(runs(server, "scale"), before, strict=True))
    assert rows == sum((client + n) % 10 != 0 for client in range(16) for n in range(15))
    assert count < rows


def test_a_model_whose_rows_depend_on_each_other_shares_none(server: Running) -> None:
    ask_all(server, "centred", lambda x: [0.0, 0.0])
    assert runs(server, "centred") == (0.0, 0.0)


def test_who_wants_none_shares_none(server: Running) -> None:
    ask_all(server, "alone", lambda x: [2 * x, -2 * x])
    assert runs(server, "alone") == (0.0, 0.0)
