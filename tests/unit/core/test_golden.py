"""A golden file is read whole or refused, and never unpickled."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.core import golden as module
from edge.core.golden import Golden, load_golden
from edge.domain.errors import LoadError
from edge.domain.tensors import Array

GOOD = {"input:x": np.ones((2, 3), np.uint8), "output:y": np.ones((2, 1), np.float32)}


def packed(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read(tmp_path: Path, content: bytes) -> Golden:
    path = tmp_path / "golden.npz"
    path.write_bytes(content)
    return load_golden(path)


def test_arrays_and_tolerances_are_read(tmp_path: Path) -> None:
    golden = read(tmp_path, packed(GOOD | {"atol": 2, "rtol": 0.5, "min_match": 0.99, "max_ms": np.float64(7)}))
    assert (golden.runs, golden.atol, golden.rtol, golden.min_match, golden.max_ms) == (2, 2.0, 0.5, 0.99, 7.0)
    assert golden.input(1)["x"].tolist() == [1, 1, 1]


def test_tolerances_have_defaults(tmp_path: Path) -> None:
    golden = read(tmp_path, packed(GOOD))
    assert (golden.atol, golden.rtol, golden.min_match, golden.max_ms) == (0, 0, 1, 0)


def claiming(shape: tuple[int, ...]) -> bytes:
    """An array whose header claims more than there is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("input:x.npy", header.getvalue() + bytes(64))
    return file.getvalue()


def many(count: int) -> dict[str, Array]:
    return {f"input:{index}": np.ones(1) for index in range(count)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "want an .npz file"),
        (b"not a zip file", "want an .npz file"),
        (packed(GOOD)[:200], "want an .npz file"),
        (packed({"input:x": np.array([{}], object), "output:y": np.ones(1)}), "without pickled objects"),
        (packed(GOOD | {"atoll": 2}), "atoll: want input:<tensor>, output:<tensor>, atol, rtol, min_match, max_ms"),
        (packed(GOOD | {"atol": -1}), "atol: want one number from 0 up"),
        (packed(GOOD | {"rtol": float("nan")}), "rtol: want one number from 0 up"),
        (packed(GOOD | {"max_ms": [1, 2]}), "max_ms: want one number from 0 up"),
        (packed(GOOD | {"atol": "2"}), "atol: want one number from 0 up"),
        (packed(GOOD | {"min_match": 99}), "min_match: want a share from 0 to 1, got 99"),
        (packed({"input:x": np.ones(2)}), "want inputs and outputs"),
        (packed({"input:x": np.ones((2, 1)), "output:y": np.ones((3, 1))}), r"the same number of runs, got \[2, 3\]"),
        (packed({"input:x": np.ones(()), "output:y": np.ones(())}), r"the same number of runs, got \[0\]"),
        (packed({"input:x": np.ones((0, 1)), "output:y": np.ones((0, 1))}), r"the same number of runs, got \[0\]"),
        (claiming((10**9, 10**6)), "claims"),
        (packed(many(300)), "want at most 256 arrays"),
    ],
)
def test_what_is_no_golden_file_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(LoadError, match=words) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith("golden.npz: ")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GOLDEN_BYTES", 1_000_000)
    content = packed({"input:x": np.zeros((1, 10_000_000), np.uint8), "output:y": np.zeros((1, 1))})
    assert len(content) < 100_000
    with pytest.raises(LoadError, match="want at most 256 arrays of 1000000 bytes together"):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"golden\.npz: cannot be read: No such file"):
        load_golden(tmp_path / "golden.npz")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(packed(GOOD | {"atol": 2}))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LoadError):
        assert read(tmp_path, bytes(damaged)).runs > 0
