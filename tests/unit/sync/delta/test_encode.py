"""What is encoded is what comes out, for any two files; a model's tensors are found wherever they went."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.tensors import DType
from sync.delta import encode
from sync.delta.encode import make_patch
from sync.delta.pieces import Piece, Span, gaps, spread
from sync.delta.pieces import encode as encode_pieces
from sync.domain.digests import digest_of
from tests.tflite_models import Graph, T, make
from tests.unit.sync.delta.test_decode import applied

Int8 = npt.NDArray[np.int8]

bsdiff4 = pytest.importorskip("bsdiff4")


def nothing_found(old: bytes, new: bytes) -> Sequence[Piece] | None:
    """A search that gives up at once: what does not need one must do without."""
    return None


def patched(old: bytes, new: bytes, **search: object) -> bytes:
    """A patch that has proved itself here and with stock bsdiff."""
    patch = make_patch(old, new, **search)  # type: ignore[arg-type]  # a search, or none
    assert patch is not None
    assert applied(patch, old, new) == new
    assert bsdiff4.patch(old, patch) == new
    return patch


def weights(seed: int, size: int = 20_000) -> Int8:
    return np.clip(np.random.default_rng(seed).normal(0, 30, size), -127, 127).astype(np.int8)


def nudged(values: Int8) -> Int8:
    """A fine-tune: every third weight moved by one."""
    moved = np.random.default_rng(99).integers(-1, 2, values.size) * (np.arange(values.size) % 3 == 0)
    out: Int8 = np.clip(values + moved, -127, 127).astype(np.int8)
    return out


def model(*tensors: tuple[str, Int8]) -> bytes:
    named = [T(name, DType.INT8, data.shape, data, scales=[0.1], zero_points=[0]) for name, data in tensors]
    return make([Graph(named, [0], [0])])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_encoded_comes_out_for_any_two_files(data: st.DataObject) -> None:
    old = data.draw(st.binary(max_size=600))
    new = data.draw(st.binary(max_size=600) | st.builds(lambda a, b, c: a + old[b:] + c, st.binary(), st.integers(0, 50), st.binary()))  # fmt: skip
    patched(old, new, search=nothing_found)


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_what_is_searched_comes_out_for_any_two_files(old: bytes, new: bytes) -> None:
    patched(old + new, new + old)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), max_size=6), st.integers(0, 99))
def test_what_is_encoded_comes_out_for_any_two_models(old: list[int], new: list[int], size: int) -> None:
    of = [
        model(("in", weights(0, 4)), *((f"w{each}", weights(each, 40 * each + size)) for each in which))
        for which in (old, new)
    ]
    patched(*of, search=nothing_found)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_hostile_model_is_a_file_like_any_other(data: st.DataObject) -> None:
    good = model(("in", weights(0, 4)), ("a", weights(1, 300)), ("b", weights(2, 300)))
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(bad) - 1))
        bad[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4) | st.just(b"\xff\xff\xff\xff"))
    hostile = bytes(bad[: data.draw(st.integers(0, len(bad)))])
    patched(good, hostile, search=nothing_found)
    patched(hostile, good, search=nothing_found)


def test_a_fine_tune_of_a_model_that_gained_a_layer_takes_a_fraction_though_all_names_moved() -> None:
    layers = [weights(seed) for seed in range(8)]
    old = model(*((f"const{at}", each) for at, each in enumerate(layers)))
    tuned = [weights(50), *map(nudged, layers)]
    new = model(*((f"const{at}", each) for at, each in enumerate(tuned)))
    patch = patched(old, new, search=nothing_found)
    alone = len(bsdiff4.diff(b"", weights(50).tobytes()))
    assert len(patch) < alone + 0.16 * len(old)


def test_a_tensor_that_only_changed_its_place_and_its_name_costs_nothing() -> None:
    layers = [weights(seed, 2000) for seed in range(50)]
    old = model(*((f"a{at}", each) for at, each in enumerate(layers)))
    new = model(*((f"b{at}", each) for at, each in enumerate(reversed(layers))))
    assert len(patched(old, new, search=nothing_found)) < 3000


def test_a_tensor_that_has_nothing_of_its_namesake_is_sent_and_not_its_difference() -> None:
    old, new = model(("w", weights(1, 50_000))), model(("w", weights(2, 50_000)))
    difference = (weights(2, 50_000) - weights(1, 50_000)).tobytes()
    patch = patched(old, new, search=nothing_found)
    assert len(patch) < len(bsdiff4.diff(b"", new)) + 300 < len(bsdiff4.diff(b"", difference))


def test_of_both_ways_the_smaller_is_taken() -> None:
    chance = random.Random(3)
    old = chance.randbytes(40_000)
    new = old[:1000] + old[20_000:] + old[:20_000]
    whole = [Piece(0, 0, 1000), Piece(1000, 20_000, 20_000), Piece(21_000, 0, 20_000)]
    good = patched(old, new, search=lambda have, want: whole if (have, want) == (old, new) else None)
    assert len(good) < 300
    tuned = model(("w", weights(1)), ("v", weights(2))), model(("w", nudged(weights(1))), ("v", weights(2)))
    assert len(patched(*tuned, search=lambda have, want: [])) == len(patched(*tuned, search=nothing_found))


def test_a_file_that_changed_in_one_place_needs_no_search() -> None:
    old = random.Random(4).randbytes(40_000)
    new = old[:10_000] + b"some words" + old[10_100:]
    assert len(patched(old, new, search=nothing_found)) < 300


def test_weights_without_a_model_around_them_are_compared_in_place() -> None:
    old = weights(1, 50_000)
    assert len(patched(old.tobytes(), nudged(old).tobytes(), search=nothing_found)) < 0.2 * old.size


def test_a_patch_that_does_not_make_the_file_is_never_handed_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = bsdiff4.diff(b"old", b"wen")
    monkeypatch.setattr(encode, "encode", lambda old, new, pieces: wrong)
    with caplog.at_level(logging.ERROR):
        assert make_patch(b"old", b"new") is None
    assert "is dropped" in caplog.text


def test_a_file_beyond_the_bound_gets_no_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MAX_BYTES", 100)
    assert make_patch(bytes(101), b"new") is None
    assert make_patch(bytes(100), b"new") is not None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pieces_of_joined_files_land_where_their_bytes_are(data: st.DataObject) -> None:
    files = [data.draw(st.binary(min_size=1, max_size=80)) for _ in range(2)]
    spans = [gaps(_taken(data, len(each)), len(each)) for each in files]
    old, new = (b"".join(file[s.start : s.start + s.size] for s in of) for file, of in zip(files, spans, strict=True))
    size = data.draw(st.integers(0, min(len(old), len(new))))
    piece = Piece(data.draw(st.integers(0, len(new) - size)), data.draw(st.integers(0, len(old) - size)), size)
    landed = list(spread([piece], *spans))
    assert b"".join(files[0][p.old : p.old + p.size] for p in landed) == old[piece.old : piece.old + size]
    assert b"".join(files[1][p.new : p.new + p.size] for p in landed) == new[piece.new : piece.new + size]


def _taken(data: st.DataObject, size: int) -> list[Span]:
    starts = data.draw(st.lists(st.integers(0, size - 1), max_size=4))
    return [Span(start, data.draw(st.integers(0, size - start))) for start in starts]


PEAK = """
import sys
from pathlib import Path
from sync.delta.decode import apply_patch
def reader(path):
    file = open(path, "rb")
    def read(at, count):
        file.seek(at)
        return file.read(count)
    return read, Path(path).stat().st_size
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
(patch, patch_size), (base, base_size) = reader("patch"), reader("base")
before = peak()
apply_patch(patch, patch_size, base, base_size, lambda data: None, digest=sys.argv[1], size=int(sys.argv[2]))
print(peak() - before)
"""


def test_a_patch_of_ours_is_applied_in_less_than_ten_mebibytes(tmp_path: Path) -> None:
    """All three streams at once, each longer than what bzip2 keeps of it."""
    chance = np.random.default_rng(1)
    old = chance.integers(0, 256, 8 << 20, dtype=np.uint8).tobytes()
    new = chance.integers(0, 256, 8 << 20, dtype=np.uint8).tobytes()
    places = chance.integers(0, len(old) - 100, len(new) // 100)
    pieces = [Piece(at * 100, int(place), 50) for at, place in enumerate(places)]
    patch = encode_pieces(old, new, pieces)
    (tmp_path / "patch").write_bytes(patch)
    (tmp_path / "base").write_bytes(old)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, digest_of(new), str(len(new))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 4 * 1024 < int(done.stdout) < 10 * 1024, f"{int(done.stdout)} KiB"
