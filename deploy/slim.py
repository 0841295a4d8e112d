"""Takes out of an environment what a device never opens: tests, sources, stubs, and parts that serve other machines.

    python deploy/slim.py SITE_PACKAGES

It says how much that was. What is taken is named here, with who would have wanted it; no pattern reaches this package.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NEVER_OPENED = (
    # Whoever compiles against a package, or checks its types.
    *("**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.h", "**/*.hpp", "**/*.c", "**/*.cc", "**/*.cpp", "**/*.a"),
    # Whoever works on it.
    *("**/tests", "**/test_data", "numpy/distutils", "numpy/f2py", "numpy/_core/include", "numpy/core/include"),
    # LiteRT's compiler, what that alone imports, and LiteRT's path to a GPU.
    *("ai_edge_litert/aot", "ai_edge_litert/tools", "ai_edge_litert/*_pb2.py", "ml_dtypes", "google/protobuf", "tqdm"),
    *("google/_upb", "ai_edge_litert/libLiteRtWebGpuAccelerator.so"),
    # Pictures come as JPEG and PNG; nothing writes on them, and their colours are taken as they are.
    *("PIL/_avif.*", "pillow.libs/libavif*", "PIL/_imagingcms.*", "pillow.libs/liblcms2*"),
    *("PIL/_imagingft.*", "pillow.libs/libfreetype*", "pillow.libs/libharfbuzz*", "pillow.libs/libbrotli*"),
)
OURS = ("edge", "sync")


def slim(site: Path) -> int:
    """The bytes that went. Raises OSError."""
    before = _bytes(site)
    for pattern in NEVER_OPENED:
        for found in sorted(site.glob(pattern)):
            if found.relative_to(site).parts[0] in OURS:
                continue
            if found.is_dir():
                shutil.rmtree(found)
            elif found.exists():
                found.unlink()
    return before - _bytes(site)


def _bytes(place: Path) -> int:
    return sum(each.lstat().st_size for each in place.rglob("*"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{slim(Path(sys.argv[1])) / 1e6:.1f} MB taken out")
