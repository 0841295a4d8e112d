"""The search runs apart, and what goes wrong there means that nothing was found."""

from __future__ import annotations

import logging
import random
import struct

import pytest

from sync.delta.encode import make_patch
from sync.delta.pieces import Piece
from sync.delta.search import _pieces, search

pytest.importorskip("bsdiff4")


def test_what_moved_is_found() -> None:
    old = random.Random(1).randbytes(5000)
    found = search(old, b"0123456789" * 10 + old[1000:])
    assert found == [Piece(100, 1000, 4000)]


def test_files_that_the_search_never_ends_with_get_a_patch_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    zeros = bytes(4 << 20)
    with caplog.at_level(logging.WARNING):
        assert search(zeros[:-2] + b"\1\0", zeros, seconds=0.5) is None
    assert "was not done after 0.5 s" in caplog.text
    patch = make_patch(b"x" + zeros, zeros + b"y", search=lambda old, new: search(old, new, seconds=0.5))
    assert patch is not None
    assert len(patch) < 1000


def test_a_search_that_dies_found_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with caplog.at_level(logging.WARNING):
        assert search(b"old", b"new") is None
    assert "ended with 1" in caplog.text


def test_files_beyond_the_bound_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere")
    assert search(bytes(6), bytes(5), max_bytes=10) is None


def test_a_search_that_leaves_the_files_is_not_believed() -> None:
    step = struct.Struct("<qqq")
    assert _pieces(step.pack(2, 1, -2) + step.pack(1, 0, 0), 2, 4) == [Piece(0, 0, 2), Piece(3, 0, 1)]
    for row in [(3, 0, 0), (-1, 0, 0), (1, -1, 0), (1, 9, 0)]:
        assert _pieces(step.pack(*row), 2, 4) is None
    assert _pieces(step.pack(1, 0, -2) + step.pack(1, 0, 0), 2, 4) is None
