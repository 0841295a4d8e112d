"""Who is held to have killed the last processes, and what it costs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.core.deaths import Deaths
from edge.domain.models import Artifact, ModelId, Platform

ARTIFACT = Artifact(ModelId("m", 1), Platform.TFLITE, Path("/nowhere/m.tflite"), "f1")


def dies_running(state_dir: Path, *, crashed: bool) -> None:
    """A process whose version runs as it dies; `crashed` says how the one before it died."""
    deaths = Deaths(state_dir, crashed=crashed)
    deaths.loading(ARTIFACT)
    deaths.loaded(ARTIFACT, serving=True)
    deaths.mark(ARTIFACT).set()


def test_who_was_killed_twice_gives_way_to_another_version_and_serves_where_there_is_none(tmp_path: Path) -> None:
    for _ in range(3):
        dies_running(tmp_path, crashed=False)
    deaths = Deaths(tmp_path, crashed=False)
    assert "died 3 times" in deaths.blamed(ARTIFACT)
    assert not deaths.blamed(ARTIFACT, last_resort=True)
    assert deaths.suspect(ARTIFACT), "a child tries it first"


def test_who_crashed_twice_serves_no_more(tmp_path: Path) -> None:
    dies_running(tmp_path, crashed=False)
    for _ in range(2):
        dies_running(tmp_path, crashed=True)
    deaths = Deaths(tmp_path, crashed=False)
    assert "died 3 times" in deaths.blamed(ARTIFACT, last_resort=True)
    deaths.forgive(["m"])
    assert not deaths.blamed(ARTIFACT)


def test_a_record_without_crashes_is_read(tmp_path: Path) -> None:
    (tmp_path / "boots.json").write_text(
        '{"format": "edge-boots/1", "clean": true, "loading": [], "unsettled": [], "deaths": [["m", 1, "f1", 2]]}'
    )
    deaths = Deaths(tmp_path)
    assert deaths.blamed(ARTIFACT)
    assert not deaths.blamed(ARTIFACT, last_resort=True)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os.abort()", "Aborted"),
        ("ctypes.string_at(0)", "Segmentation fault"),
        ("os.kill(os.getpid(), signal.SIGKILL)", ""),
        ("sys.exit(0)", ""),
    ],
)
def test_a_crash_leaves_words_and_a_kill_does_not(tmp_path: Path, end: str, words: str) -> None:
    start = f"import ctypes, os, signal, sys, pathlib; from edge.core import lastwords; path = pathlib.Path({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", f"{start}; lastwords.take(path); {end}"], check=False, timeout=60)
    after = f"{start}; print(lastwords.take(path)); print(repr(lastwords.take(path)))"
    said = subprocess.run([sys.executable, "-c", after], check=True, timeout=60, capture_output=True, text=True)
    assert words in said.stdout
    assert bool(words) == ("Fatal Python error" in said.stdout)
    assert said.stdout.endswith("''\n"), "words are told once"


def test_a_directory_that_cannot_be_written_keeps_nobody_from_starting() -> None:
    check = (
        "import pathlib; from edge.core import lastwords; assert lastwords.take(pathlib.Path('/proc/nowhere')) == ''"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
