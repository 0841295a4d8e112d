"""`edge.client` against a real server: by URL, by Unix socket, over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.client import ClientError, Forbidden, Invalid, NotFound, Unauthenticated, Unreachable
from tests.functional.server import Running, serving
from tests.functional.test_tls import Authority
from tests.functional.test_tls import authority as authority  # a fixture
from tests.functional.zoo import DIGITS, zoo
from tests.unit.client.both import Maker, both
from tests.waiting import until_blocking

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class Reach:
    def __init__(self, running: Running, uds: Path) -> None:
        self.running, self.urls = running, {"tcp": running.url, "uds": f"unix:{uds}"}


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reach]:
    path = tmp_path_factory.mktemp("client")
    uds = path / "edge.sock"
    labels = ("--set", "models.digits.labels=stable=1", "--set", "models.digits.policy=all")
    with serving(path, zoo(path / "models"), "--uds", uds, *labels) as running:
        yield Reach(running, uds)


@pytest.fixture(params=["tcp", "uds"])
def url(reach: Reach, request: pytest.FixtureRequest) -> str:
    return reach.urls[request.param]


@pytest.fixture(scope="module")
def pixels() -> tuple[Any, Any]:
    """Held-back digits as the model's int8 wants them, and what they are."""
    with np.load(DIGITS / "held_back.npz") as held:
        images = np.round(held["images"][:20].reshape(-1, 8, 8, 1) / 16 * 255 - 128).astype(np.int8)
        return images, held["labels"][:20]


@both
def test_arrays_go_out_and_come_back(made: Maker, url: str, pixels: tuple[Any, Any]) -> None:
    images, labels = pixels
    with made(url) as client:
        scores = client.predict("digits", images)
        assert (scores.model, scores.version) == ("digits", 1)
        assert scores.only.dtype == np.int8
        assert scores.only.tolist() == client.predict_json("digits", images.tolist())
        assert (scores.only.argmax(-1) == labels).mean() > 0.5
        assert (client.predict("digits", {"image": images}, outputs=["scores"]).only == scores.only).all()
        real = client.predict("digits", images.astype(np.float32) / 255 * 16 + 8, dequantize=True)
        assert real.only.dtype == np.float32


@both
def test_a_version_and_a_label_are_picked(made: Maker, url: str) -> None:
    x = np.zeros((1, 8, 8, 1), np.int8)
    with made(url) as client:
        assert client.predict("digits", x, version=1).version == 1
        assert client.predict("digits", x, label="stable").version == 1
        assert len(client.predict_json("digits", x.tolist(), label="stable")) == 1
        with pytest.raises(NotFound, match="version 9"):
            client.predict("digits", x, version=9)
        with pytest.raises(Invalid, match="canary"):
            client.predict("digits", x, label="canary")


@both
def test_strings_truths_and_several_inputs(made: Maker, url: str) -> None:
    with made(url) as client:
        words = client.predict("words", ["ä", b"\xff"])
        assert words.only.tolist() == ["ä".encode(), b"\xff"]
        assert client.predict("flags", np.array([True, False])).only.tolist() == [True, False]
        names = [tensor.name for tensor in client.metadata("sum").inputs]
        assert len(names) == 2
        with pytest.raises(Invalid, match="want a dict of arrays"):
            client.predict("sum", np.ones(1, np.float32))


@both
def test_rows_of_json(made: Maker, url: str) -> None:
    with made(url) as client:
        assert client.predict_json("half", np.array([1.0, 3.0])) == [0.5, 1.5]


@both
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_is_named(made: Maker, url: str, pixels: tuple[Any, Any], kind: str, tmp_path: Path) -> None:
    images, labels = pixels
    file = tmp_path / f"digit.{kind}"
    Image.fromarray((images[0, :, :, 0].astype(np.int16) + 128).astype(np.uint8)).resize((64, 64)).save(file)
    with made(url) as client:
        best = client.classify("digits", file, top=2)
        assert best[0].label == NAMES[labels[0]]
        assert len(best) == 2
        assert client.classify("digits", file.read_bytes(), top=2) == best
        with pytest.raises(FileNotFoundError):
            client.classify("digits", tmp_path / "none.png")


@both
def test_what_is_there_and_how_it_is(made: Maker, url: str) -> None:
    with made(url) as client:
        assert {model.name for model in client.models() if model.state == "READY"} >= {"digits", "half"}
        told = client.metadata("digits")
        assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in told.inputs] == [
            ("image", "INT8", (-1, 8, 8, 1))
        ]
        assert told.versions == ("1",)
        assert client.ready()
        assert client.ready("digits")
        assert not client.ready("nobody")
        health = client.health()
        assert (health.live, health.ready) == (True, True)


@both
def test_the_servers_own_words_are_the_errors(made: Maker, reach: Reach) -> None:
    url = reach.running.url
    with made(url) as client:
        with pytest.raises(Invalid, match="digits"):
            client.predict("digits", np.zeros((1, 9, 9, 1), np.int8))
        with pytest.raises(NotFound, match="nobody") as caught:
            client.predict("nobody", {"x": np.zeros(1)})
        assert caught.value.status == 404
        with pytest.raises(NotFound):
            client.predict_json("nobody", [1])


@both
def test_tokens_and_certificates(made: Maker, authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("server")
    (tmp_path / "tokens").write_text("secret\n")
    options = ("--token-file", tmp_path / "tokens", "--tls-cert", cert, "--tls-key", key)
    with serving(tmp_path, zoo(tmp_path / "models"), *options, ready=False) as running:
        url = f"https://127.0.0.1:{running.port}"
        with made(url, token="secret", ca_file=authority.ca) as client:
            until_blocking(client.ready)
            for _ in range(3):
                assert client.predict("half", np.ones(1, np.float32)).only == [0.5]
        with made(url, token="other", ca_file=authority.ca) as client:
            assert client.ready()
            with pytest.raises(Unauthenticated, match="token"):
                client.models()
        with made(url, token="secret") as client, pytest.raises(Unreachable, match="not trusted"):
            client.ready()


@both
def test_a_server_that_is_gone_is_unreachable(made: Maker, tmp_path: Path) -> None:
    with made(f"unix:{tmp_path}/none.sock", timeout_s=2) as client, pytest.raises(Unreachable) as caught:
        client.ready()
    assert "No such file" in str(caught.value)
    assert isinstance(caught.value, ClientError)
    assert not isinstance(caught.value, Forbidden)
