"""Which URL opens which store, what it imports, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sync.domain.errors import OperatorError
from sync.stores.catalog import open_for_device, open_for_writing, open_store
from tests.fakes.sync.static import static_server

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "wJalr", "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/srv/models", "/srv/models"),
        ("models", "models"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("https://me:word@host:8443/models/?x=y", "https://host:8443/models"),
        ("http://host", "http://host"),
        ("s3://models/fleet", "s3://models/fleet"),
    ],
)
def test_a_store_is_known_by_its_url_without_secrets(url: str, name: str) -> None:
    assert open_store(url, environment=KEYS).name == name


@pytest.mark.parametrize("url", ["", "ftp://me:word@host/x", "http://me:word@host/x", "http://[me:word", "gs://models"])
def test_what_cannot_be_written_to_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        open_for_writing(url, environment=KEYS)
    assert "word" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["", "http://", "https://me:word@/x", "http://[me:word", "s3://me:word@models", "s3://"]
)
def test_what_is_no_store_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        open_store(url, environment=KEYS)
    assert "word" not in caught.value.message


async def test_what_is_published_travels_to_devices_condensed_and_to_operators_as_it_is(tmp_path: Path) -> None:
    path, data = "metadata/1.releases.json", b'{"signed": 1}'
    await open_for_writing(str(tmp_path)).create(path, data)
    async with static_server(tmp_path) as server:
        for opened in (open_for_device(server.url), open_store(server.url), open_for_device(str(tmp_path))):
            assert await opened.get(path, max_bytes=100) == data
            await opened.close()
    assert server.asked == [f"{path}.z1", path]


def test_a_bucket_takes_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wJalr")
    with pytest.raises(OperatorError, match="a bucket takes no token"):
        open_store("s3://models", token_file=str(tmp_path / "token"), environment=KEYS)


@pytest.mark.parametrize("text", [None, b"no certificate"])
def test_a_certificate_that_is_none_is_told(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_bytes(text)
    with pytest.raises(OperatorError):
        open_store("s3://models", ca_file=str(tmp_path / "ca.pem"), environment=KEYS)


def test_only_a_bucket_imports_what_speaks_to_buckets() -> None:
    program = (
        "import sys, os; os.environ.clear(); from sync.stores.catalog import open_store;"
        "open_store('/srv'); open_store('http://host'); assert 'obstore' not in sys.modules, 'imported early';"
        f"open_store('s3://models', environment={KEYS!r}); assert 'obstore' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_what_speaks_to_buckets_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['obstore'] = None\n"
        "from sync.domain.errors import OperatorError\nfrom sync.stores.catalog import open_store\n"
        f"try:\n    open_store('s3://models', environment={KEYS!r})\n"
        "except OperatorError as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert "s3:// wants the package obstore, which is not installed: pip install 'edge-serving[s3]'" in done.stdout
