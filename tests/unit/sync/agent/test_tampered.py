"""What somebody put into the agent's directories in place of a file: nobody waits for it, and nobody dies of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.domain.layout import ASPIRED_FILE
from sync.agent.board import read_situation
from sync.agent.clock import SystemClock
from sync.agent.download import Downloader
from sync.agent.files import OsFiles
from sync.agent.journal import JournalFile
from sync.agent.outbox import Outbox
from sync.agent.places import Places
from sync.domain.digests import digest_of, hex_of
from sync.domain.errors import DiskError, DocumentError
from sync.domain.journal import Journal, ModelState, Phase, encode_journal, parse_journal
from sync.domain.layout import blob_path
from sync.domain.sealed import unsealed
from sync.stores.directory import DirectoryStore

DEEP = b'{"sha256":"x","document":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def in_time(work: Callable[[], object]) -> object:
    """The result, or what was raised; fails where it waits."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(work())
        except Exception as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    assert got, "it waits"
    return got[0]


@pytest.mark.parametrize("what", ["read", "read_at", "write_at", "sync", "truncate"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_an_error_at_once(tmp_path: Path, what: str, kind: str) -> None:
    files, path = OsFiles(), tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero")
    work: dict[str, Callable[[], object]] = {
        "read": lambda: files.read(path),
        "read_at": lambda: files.read_at(path, 0, 10),
        "write_at": lambda: files.write_at(path, 0, b"x"),
        "sync": lambda: files.sync(path),
        "truncate": lambda: files.truncate(path, 0),
    }
    assert isinstance(in_time(work[what]), OSError)


def test_a_pipe_in_the_outbox_holds_up_no_report(tmp_path: Path) -> None:
    box = Outbox(OsFiles(), tmp_path)
    os.mkfifo(tmp_path / "000000000001.json")
    box.put(2, b'{"a":1}')
    assert in_time(box.oldest) == (2, b'{"a":1}')


def test_a_report_nested_without_end_is_dropped(tmp_path: Path) -> None:
    box = Outbox(OsFiles(), tmp_path)
    (tmp_path / "000000000001.json").write_bytes(DEEP)
    box.put(2, b'{"a":1}')
    assert box.oldest() == (2, b'{"a":1}')
    with pytest.raises(ValueError, match="nested"):
        unsealed(DEEP)


def aspired(directory: Path, version: int) -> None:
    directory.mkdir(parents=True)
    document = {"format": "edge-aspired/1", "generation": 3, "versions": [version], "fallback": None, "labels": {}}
    (directory / ASPIRED_FILE).write_text(json.dumps(document))


def test_a_journal_is_found_again_beside_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("good", "odd", "pipe"):
        aspired(tmp_path / "models" / name, 7)
        (tmp_path / "models" / name / "7").mkdir()
        (tmp_path / "models" / name / "7" / "model.tflite").write_bytes(b"x" * 1000)
    os.mkfifo(tmp_path / "models/odd/7/a_pipe")
    (tmp_path / "models/pipe" / ASPIRED_FILE).unlink()
    os.mkfifo(tmp_path / "models/pipe" / ASPIRED_FILE)
    (tmp_path / "state.json").write_bytes(b"damaged")
    journal = JournalFile(OsFiles(), tmp_path / "state.json", tmp_path / "models")
    in_time(journal.load)
    assert list(journal.value.models) == ["good"]
    active = journal.value.models["good"].active
    assert active is not None
    assert [(file.path, file.size) for file in active.files] == [("model.tflite", 1000)]


def test_a_damaged_journal_stays_where_it_is_until_the_models_could_be_looked_at(tmp_path: Path) -> None:
    class Failing(OsFiles):
        def names(self, directory: Path) -> list[str]:
            raise OSError(5, "the disk fails")

    (tmp_path / "state.json").write_bytes(b"damaged")
    with pytest.raises(DiskError):
        JournalFile(Failing(), tmp_path / "state.json", tmp_path / "models").load()
    assert (tmp_path / "state.json").exists()


def test_no_more_of_a_model_is_in_memory_at_once_than_is_hashed(tmp_path: Path) -> None:
    class Counting(OsFiles):
        whole: list[str] = []  # noqa: RUF012

        def read(self, path: Path) -> bytes:
            self.whole.append(path.name)
            return super().read(path)

    aspired(tmp_path / "models/m", 7)
    (tmp_path / "models/m/7").mkdir()
    (tmp_path / "models/m/7/model.tflite").write_bytes(b"x" * 1000)
    (tmp_path / "state.json").write_bytes(msgspec.json.encode({}))
    files = Counting()
    assert JournalFile(files, tmp_path / "state.json", tmp_path / "models").load().models["m"].active is not None
    assert "model.tflite" not in files.whole


def test_what_is_too_long_to_be_a_journal_or_a_notice_is_not_read(tmp_path: Path) -> None:
    for name in ("state.json", "situation.json"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 400 << 30)
    assert read_situation(OsFiles(), tmp_path / "situation.json") is None
    with pytest.raises(DocumentError, match="want at most"):
        JournalFile(OsFiles(), tmp_path / "state.json", tmp_path / "models").peek()


@pytest.mark.parametrize(
    "models",
    [
        {"m": ModelState(phase=Phase.STAGING)},
        {"m": ModelState(phase=Phase.SWAPPING)},
        {"m": ModelState(phase=Phase.PROBATION)},
        {"../../etc": ModelState()},
    ],
    ids=["staging", "swapping", "probation", "name"],
)
def test_a_journal_of_what_cannot_be_is_none(models: dict[str, ModelState]) -> None:
    with pytest.raises(DocumentError, match=r"journal: .*want"):
        parse_journal(encode_journal(Journal(models=models)))


async def test_a_note_beside_a_part_that_is_nested_without_end_is_none(tmp_path: Path) -> None:
    data = b"a model" * 1000
    places = Places(tmp_path / "state", tmp_path / "models")
    places.tmp.mkdir(parents=True)
    (places.tmp / f"{hex_of(digest_of(data))}.part.json").write_bytes(b'{"x":' + b"[" * 100_000)
    store = DirectoryStore(tmp_path / "store")
    await store.create(blob_path(digest_of(data)), data)
    await Downloader(OsFiles(), places, SystemClock()).blob(digest_of(data), len(data), [store], min_rate_Bps=0)
    assert places.blob(digest_of(data)).read_bytes() == data
