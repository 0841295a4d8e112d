from __future__ import annotations

import bz2
import contextlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.delta.decode import apply_patch
from sync.domain.digests import digest_of
from sync.domain.errors import DeltaError, HashMismatch

bsdiff4 = pytest.importorskip("bsdiff4")


def applied(patch: bytes, base: bytes, new: bytes) -> bytes:
    out = bytearray()
    apply_patch(
        lambda at, count: patch[at : at + count],
        len(patch),
        lambda at, count: base[at : at + count],
        len(base),
        out.extend,
        digest=digest_of(new),
        size=len(new),
    )
    return bytes(out)


def integer(value: int) -> bytes:
    return (abs(value) | (1 << 63 if value < 0 else 0)).to_bytes(8, "little")


def made(controls: list[tuple[int, int, int]], diff: bytes, extra: bytes, size: int) -> bytes:
    """A patch of just these steps."""
    packed = [bz2.compress(part) for part in (b"".join(integer(each) for row in controls for each in row), diff, extra)]
    return b"BSDIFF40" + integer(len(packed[0])) + integer(len(packed[1])) + integer(size) + b"".join(packed)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_what_bsdiff_makes_is_applied(old: bytes, new: bytes) -> None:
    assert applied(bsdiff4.diff(old, new), old, new) == new


def test_a_large_file_with_changes_everywhere_is_rebuilt() -> None:
    chance = random.Random(5)
    old = chance.randbytes(1_500_000)
    new = bytearray(old[200_000:] + old[:100_000] + chance.randbytes(50_000))
    for _ in range(2000):
        new[chance.randrange(len(new))] ^= chance.randrange(256)
    assert applied(bsdiff4.diff(old, bytes(new)), old, bytes(new)) == new


def test_a_base_that_is_read_beyond_its_ends_counts_as_nothing() -> None:
    patch = made([(4, 0, -8), (6, 0, 0)], b"abcd" + b"efghij", b"", 10)
    assert bsdiff4.patch(b"\1" * 4, patch) == applied(patch, b"\1" * 4, bsdiff4.patch(b"\1" * 4, patch))


NEW = b"x" * 100


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        (b"", "want a patch that begins with"),
        (b"BSDIFF41" + b"\0" * 24, "want a patch that begins with"),
        (b"BSDIFF40" + integer(-1) + integer(0) + integer(100), "streams of -1"),
        (b"BSDIFF40" + integer(1 << 62) + integer(0) + integer(100), "in a patch of 32"),
        (b"BSDIFF40" + integer(0) + integer(0) + integer(101), "one that makes 101"),
        (b"BSDIFF40" + integer(0) + integer(0) + integer(100), "the control stream is cut off"),
        (b"BSDIFF40" + integer(8) + integer(0) + integer(100) + b"not bz2!", "the control stream is damaged"),
        (made([], b"", b"", 100), "the control stream ends 24 bytes early"),
        (made([(101, 0, 0)], b"", b"", 100), "goes beyond the 100 of the result"),
        (made([(1 << 62, 1 << 62, 0)], b"", b"", 100), "goes beyond"),
        (made([(-1, 0, 0)], b"", b"", 100), "goes beyond"),
        (made([(0, -1, 0)], b"", b"", 100), "goes beyond"),
        (made([(100, 0, 0)], b"x", b"", 100), "the difference stream ends 99 bytes early"),
        (made([(0, 100, 0)], b"", b"x" * 99, 100), "the extra stream ends 1 bytes early"),
        (made([(1, 0, (1 << 63) - 1), (99, 0, 0)], b"x" * 100, b"", 100), "a step to"),
        (made([(0, 0, 0)] * 200, b"", b"", 100), "byte 0 of 100: 102 steps that make nothing"),
    ],
)
def test_a_patch_that_lies_is_refused_with_where(patch: bytes, text: str) -> None:
    with pytest.raises(DeltaError) as caught:
        applied(patch, b"base", NEW)
    assert text in caught.value.message


def test_a_patch_that_makes_something_else_is_refused() -> None:
    with pytest.raises(HashMismatch, match="the patch made sha256:"):
        applied(made([(0, 100, 0)], b"", b"y" * 100, 100), b"", NEW)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_patch_makes_the_right_file_or_none(data: st.DataObject) -> None:
    old, new = bytes(range(256)) * 8, bytes(range(255, -1, -1)) * 8
    patch = bytearray(bsdiff4.diff(old, new))
    for _ in range(data.draw(st.integers(1, 4))):
        patch[data.draw(st.integers(0, len(patch) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DeltaError, HashMismatch):
        assert applied(bytes(patch[: data.draw(st.integers(0, len(patch)))]), old, new) == new


def test_memory_does_not_grow_with_the_file_nor_with_what_a_bomb_would_make(tmp_path: Path) -> None:
    """64 MiB rebuilt, and 1 GiB refused, in a process that may take 10 MiB beyond what it has when it begins."""
    size = 64 << 20
    (tmp_path / "base").write_bytes(bytes(size))
    (tmp_path / "patch").write_bytes(made([(size, 0, 0)], bytes(size), b"", size))
    (tmp_path / "bomb").write_bytes(made([(0, 4, 0)], b"", bytes(1 << 30), 4))
    script = """
import sys, hashlib
from pathlib import Path
from sync.delta.decode import apply_patch
def peak():  # not ru_maxrss: a process begins with that of the one that started it
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
def reader(path):
    file = open(path, "rb")
    def read(at, count):
        file.seek(at)
        return file.read(count)
    return read, Path(path).stat().st_size
base, base_size = reader("base")
before = peak()
for name, size in (("patch", 64 << 20), ("bomb", 4)):
    digest = "sha256:" + hashlib.sha256(bytes(4)).hexdigest() if name == "bomb" else sys.argv[1]
    patch, patch_size = reader(name)
    apply_patch(patch, patch_size, base, base_size, lambda data: None, digest=digest, size=size)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, digest_of(bytes(size))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 10 * 1024, f"{int(done.stdout)} KiB"
