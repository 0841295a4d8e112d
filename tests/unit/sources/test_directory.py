"""What a model's directory asks for, as it changes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.domain.models import Aspired, Swap
from edge.sources.directory import DirectorySource, Wish
from edge.sources.watch import Changes


class Notes:
    """Keepsakes that outlive their sources: all that was ever kept, by key."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes]] = []

    def recall(self, key: str) -> bytes | None:
        return dict(self.kept).get(key)

    def keep(self, key: str, data: bytes) -> None:
        self.kept.append((key, data))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2, 3):
        put(tmp_path / "m", version)
    return tmp_path / "m"


def put(model: Path, version: int) -> None:
    (model / str(version)).mkdir(parents=True)
    (model / str(version) / "model.tflite").write_bytes(b"any")


def aspire(model: Path, text: str | None = None, **fields: object) -> bytes:
    document = {"format": "edge-aspired/1", "generation": 1, "versions": [2], **fields}
    data = json.dumps(document) if text is None else text
    (model / "aspired.json").write_text(data)
    return data.encode()


def source(model: Path, notes: Notes | None = None, settle_s: float = 0.0) -> DirectorySource:
    return DirectorySource(Wish("m", model), Changes(()), keepsakes=notes, settle_s=settle_s)


async def look(of: DirectorySource) -> Aspired:
    aspired = await of.look()
    assert aspired is not None
    return aspired


async def test_aspired_json_decides_before_the_policy(models: Path) -> None:
    aspire(models, versions=[2], fallback=1, labels={"stable": 1}, swap="replace", generation=9)
    aspired = await look(source(models))
    assert (aspired.versions, aspired.fallback, aspired.labels) == ((2,), 1, {"stable": 1})
    assert (aspired.swap, aspired.generation, aspired.problem) == (Swap.REPLACE, 9, "")
    assert sorted(aspired.available) == [1, 2, 3]


async def test_what_was_good_is_kept_once_and_before_it_is_acted_upon(models: Path) -> None:
    notes = Notes()
    data = aspire(models)
    it = source(models, notes)
    await it.look()
    put(models, 4)
    await it.look()
    assert [kept for _, kept in notes.kept] == [data]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "aspired.json: not JSON"),
        ('{"format": "edge-aspired/2"}', "aspired.json: format: want 'edge-aspired/1'"),
        (None, "aspired.json is gone; the last one holds"),
    ],
)
async def test_after_a_restart_a_bad_file_leaves_the_last_good_one_in_force(
    models: Path, text: str | None, problem: str
) -> None:
    notes = Notes()
    aspire(models, versions=[2], fallback=1, generation=5)
    await source(models, notes).look()
    (models / "aspired.json").unlink()
    if text is not None:
        aspire(models, text)
    aspired = await look(source(models, notes))
    assert (aspired.versions, aspired.fallback, aspired.generation) == ((2,), 1, 5)
    assert aspired.problem.startswith(problem)
    assert "holds" in aspired.problem
    assert len(notes.kept) == 1


async def test_of_many_problems_some_are_told_and_the_others_counted(models: Path) -> None:
    for version in range(100, 120):
        (models / str(version)).mkdir()
    problem = (await look(source(models))).problem
    assert problem.count("want one of") == 5
    assert problem.endswith("; and 15 more")


async def test_a_bad_file_with_no_good_one_before_it_leaves_the_choice_to_the_policy(models: Path) -> None:
    aspire(models, "nonsense")
    aspired = await look(source(models, Notes()))
    assert (aspired.versions, aspired.fallback) == ((3,), 2)
    assert aspired.problem.startswith("aspired.json: not JSON")


async def test_what_is_kept_is_judged_by_the_versions_that_are_there_when_they_have_settled(models: Path) -> None:
    notes = Notes()
    aspire(models, versions=[2])
    await source(models, notes).look()
    (models / "aspired.json").unlink()
    unsettled = source(models, notes, settle_s=0.05)
    first = await look(unsettled)
    assert (first.versions, dict(first.available), first.pending) == ((2,), {}, True)
    await asyncio.sleep(0.06)  # the files stand still for that long
    second = await look(unsettled)
    assert (second.versions, sorted(second.available), second.pending) == ((2,), [1, 2, 3], False)
    for version in (1, 2, 3):
        shutil.rmtree(models / str(version))
    put(models, 9)
    other = source(models, notes, settle_s=0.05)
    await other.look()
    await asyncio.sleep(0.06)
    assert (await look(other)).versions == (9,), "the directory has become another's"


@pytest.mark.parametrize("kept", [b"", b'{"format": "edge-aspired/0"}'])
async def test_a_kept_file_that_makes_no_sense_is_none(models: Path, kept: bytes) -> None:
    notes = Notes()
    aspire(models)
    await source(models, notes).look()
    notes.kept = [(key, kept) for key, _ in notes.kept]
    (models / "aspired.json").unlink()
    assert (await look(source(models, notes))).versions == (3,)


async def test_what_is_published_and_aspired_during_a_look_is_seen_whole_or_not_at_all(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def late(path: Path) -> Iterator[os.DirEntry[str]]:
        if path != models:
            return real(path)
        entries = list(real(path))
        put(models, 4)
        aspire(models, versions=[4])
        return iter(entries)

    aspire(models, versions=[2])
    monkeypatch.setattr("edge.sources.scan.os.scandir", late)
    aspired = await look(source(models))
    assert (aspired.versions, aspired.problem) == ((2,), "")


async def test_a_label_that_is_no_text_is_refused(models: Path) -> None:
    aspire(models, labels={"half \ud800": 2})
    aspired = await look(source(models))
    assert not aspired.labels
    assert aspired.problem == r"aspired.json: labels: want text, got 'half \ud800'"


async def test_a_file_whose_name_is_not_utf_8_is_as_good_as_any(models: Path) -> None:
    before = (await look(source(models))).available[3].fingerprint
    (models / "3" / os.fsdecode(b"od\xffd")).touch()
    after = await look(source(models))
    assert after.versions == (3,)
    assert after.available[3].fingerprint != before


async def test_a_version_does_not_go_away_for_a_file_that_cannot_be_looked_at(models: Path) -> None:
    of = source(models)
    before = await look(of)
    (models / "3" / os.fsdecode(b".#lock\xff")).symlink_to("nowhere")
    after = await look(of)
    assert after.available == before.available
    assert ".#lock" in after.problem
    assert after.problem.encode(), "an answer can say it"
    shutil.rmtree(models / "3")
    assert (await look(of)).versions == (2,)
