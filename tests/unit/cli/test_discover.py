"""`edge discover`: what is said where no server has the model."""

from __future__ import annotations

import pytest

from edge.client import Node
from edge.domain.advert import Advert
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        (1, "the one server found does not have the model nope"),
        (2, "none of the 2 servers found has the model nope"),
    ],
)
def test_a_model_that_no_server_has_is_3_and_the_servers_are_counted(
    run: Run, monkeypatch: pytest.MonkeyPatch, servers: int, says: str
) -> None:
    node = Node("cam1", Advert("1", "1.0"), ("192.0.2.1",), 8501, "http://192.0.2.1:8501", True, ("digits",))
    monkeypatch.setattr("edge.client.discover_all", lambda *_, **options: [node] * servers)
    code, _, errors = run("discover", "--model", "nope")
    assert code == 3
    assert says in errors
