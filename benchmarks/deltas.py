"""What an update of a model costs a device as a patch, beside other ways to send it, in one run.

    python -m benchmarks.deltas [--model FILE]... [--only WORD]

Rule 1: sizes are ratios of the new file compressed by xz; times are ratios of what is measured in the same run: making a
patch over bsdiff4's diff, applying it over unpacking the new file from gzip. Memory is the decoder's peak beyond what its
process begins with. Rule 2: every patch is applied, by stock bsdiff4 too, before it counts.
The models are made here; `--model` adds real ones. zstd needs the package `zstandard`. A figure that has no aim is there
to compare.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import bsdiff4

from benchmarks import retrained
from benchmarks.models import mobilenet_v2
from sync.delta.encode import make_patch
from sync.domain.digests import digest_of

FINE_TUNE_AIM, HEAD_AIM, MEMORY_AIM_MIB = 0.33, 0.02, 10.0
ROUNDS = 3
ZSTD_LEVEL = 19
METADATA = b"PK\3\4" + bytes(range(256)) * 4
"""Appended, as tools that write descriptions and labels into a model do."""

DECODER = """
import sys
from pathlib import Path
from time import perf_counter
from sync.delta.decode import apply_patch
def reader(path):
    file = open(path, "rb")
    def read(at, count):
        file.seek(at)
        return file.read(count)
    return read, Path(path).stat().st_size
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
(patch, patch_size), (base, base_size) = map(reader, sys.argv[1:3])
out, before, start = open(sys.argv[3], "wb"), peak(), perf_counter()
apply_patch(patch, patch_size, base, base_size, out.write, digest=sys.argv[4], size=int(sys.argv[5]))
print(perf_counter() - start, (peak() - before) / 1024)
"""


Made = TypeVar("Made")


@dataclass(frozen=True)
class Case:
    """`aim`: the largest share of the compressed file that a patch may have."""

    name: str
    old: bytes
    new: bytes
    aim: float = math.inf


@dataclass(frozen=True)
class Figures:
    """Sizes in bytes, times in seconds."""

    full: int
    ours: int
    stock: int
    zstd: int | None
    encode_s: float
    stock_s: float
    decode_s: float
    gunzip_s: float
    memory_mib: float


def cases(real: list[Path]) -> Iterator[Case]:
    trained = mobilenet_v2(224, 1.0)
    yield from _changes("MobileNetV2, uniform weights", retrained.weights(trained, retrained.uniform))
    yield from _changes("MobileNetV2, normal weights", trained)
    small = mobilenet_v2(224, 1.0, classes=20)
    yield Case("MobileNetV2: head of 20 classes", small, retrained.head(small), HEAD_AIM)
    yield Case("MobileNetV2: head of 1001 classes", trained, retrained.head(trained))
    yield Case("MobileNetV2: from 20 to 1001 classes", small, trained)
    yield from _changes("float32, 4 MB", retrained.float_model(), aim=math.inf)
    for path in real:
        model = path.read_bytes()
        yield from _changes(path.stem, model)
        yield Case(f"{path.stem}: head", model, retrained.head(model))


def _changes(name: str, model: bytes, aim: float = FINE_TUNE_AIM) -> Iterator[Case]:
    yield Case(f"{name}: metadata", model, model + METADATA)
    yield Case(f"{name}: 1 % of the weights by 1", model, retrained.weights(model, retrained.steps(0.01)))
    for share, bound in ((0.001, aim), (0.01, aim), (0.05, math.inf)):
        new = retrained.weights(model, retrained.noise(share), recalibrated=True)
        yield Case(f"{name}: all weights, noise of {share:.1%}", model, new, bound)
    yield Case(f"{name}: all weights new", model, retrained.weights(model, retrained.normal))


def measure(case: Case, scratch: Path) -> Figures:
    patch, encode_s = _timed(lambda: make_patch(case.old, case.new))
    stock, stock_s = _timed(lambda: len(bsdiff4.diff(case.old, case.new)))
    assert patch is not None
    assert bsdiff4.patch(case.old, patch) == case.new, case.name
    zipped = gzip.compress(case.new)
    _, gunzip_s = _timed(lambda: gzip.decompress(zipped), ROUNDS)
    decoded = [_decoded(case, patch, scratch) for _ in range(ROUNDS)]
    decode_s, memory_mib = min(each[0] for each in decoded), max(each[1] for each in decoded)
    full = len(lzma.compress(case.new))
    return Figures(full, len(patch), stock, _zstd(case), encode_s, stock_s, decode_s, gunzip_s, memory_mib)


def _timed(work: Callable[[], Made], rounds: int = 1) -> tuple[Made, float]:
    """What it made, and the seconds of the quickest round."""
    seconds = math.inf
    for _ in range(rounds):
        start = perf_counter()
        made = work()
        seconds = min(seconds, perf_counter() - start)
    return made, seconds


def _decoded(case: Case, patch: bytes, scratch: Path) -> tuple[float, float]:
    """Seconds and MiB of the agent's decoder, in a process of its own."""
    for name, data in (("patch", patch), ("base", case.old)):
        (scratch / name).write_bytes(data)
    paths = [str(scratch / name) for name in ("patch", "base", "new")]
    said = subprocess.run(
        [sys.executable, "-c", DECODER, *paths, digest_of(case.new), str(len(case.new))],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert (scratch / "new").read_bytes() == case.new, case.name
    return float(said[0]), float(said[1])


def _zstd(case: Case) -> int | None:
    """Of a patch as `zstd --patch-from` makes it, in bytes."""
    try:
        import zstandard
    except ImportError:
        return None
    size = len(case.new)
    window = max(10, (len(case.old) + size).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, window_log=window, enable_ldm=True)
    prefix = zstandard.ZstdCompressionDict(case.old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return len(zstandard.ZstdCompressor(compression_params=parameters, dict_data=prefix).compress(case.new))


def main() -> int:
    options = _options()
    missed = 0
    print(f"{'':66} {'size, of the compressed file':^37}   {'time over':^17}")
    heads = f"{'patch':>7} {'aim':>7} {'bsdiff4':>8} {'zstd':>7} {'MB':>6}   {'bsdiff4':>8} {'gunzip':>8} {'MiB':>5}"
    print(f"{'change':66} {heads}")
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases(options.model):
            if options.only in case.name:
                missed += not _print(case, measure(case, Path(scratch)))
    return 1 if missed else 0


def _print(case: Case, got: Figures) -> bool:
    ratio = got.ours / got.full
    met = ratio <= case.aim and got.memory_mib <= MEMORY_AIM_MIB
    aim = f"≤{case.aim:6.3f}" if case.aim < math.inf else ""
    zstd = f"{got.zstd / got.full:7.4f}" if got.zstd is not None else "–"
    sizes = f"{ratio:7.4f} {aim:>7} {got.stock / got.full:8.4f} {zstd:>7} {got.full / 1e6:6.2f}"
    times = f"{got.encode_s / got.stock_s:7.2f}× {got.decode_s / got.gunzip_s:7.2f}×"
    print(f"{case.name:66} {sizes}   {times} {got.memory_mib:5.1f}{'' if met else ' MISSED'}", flush=True)
    return met


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], type=Path, metavar="FILE", help="a .tflite file more")
    parser.add_argument("--only", default="", metavar="WORD", help="only the changes whose name holds it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
