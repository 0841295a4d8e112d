"""Whether models can be run: the runtime, and the numpy that it wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.doctor.children import Died, probe
from edge.doctor.finding import Finding, fail, ok

INSTALL = "pip install ai-edge-litert"
NUMPY_SIGNS = (
    "_ARRAY_API",
    "numpy.core.multiarray",
    "compiled using NumPy 1",
    "initialization of _pywrap",
    "numpy.dtype size",
)


def check_runtime(run: Callable[[str], dict[str, Any]] = probe) -> Finding:
    """`run` is asked for "runtime"."""
    try:
        found = run("runtime")
    except Died as died:
        said = str(died)
        if "No module named 'numpy'" in said:
            return fail("runtime", f"numpy cannot be imported: {said}", "pip install numpy")
        if any(sign in said for sign in NUMPY_SIGNS) or said.startswith("killed by SIG"):
            return fail(
                "runtime", f"the runtime and numpy do not fit each other: {said}",
                f"tflite-runtime 2.14 wants numpy below 2: pip install 'numpy<2', or {INSTALL}",
            )  # fmt: skip
        return fail("runtime", f"no model can be run: {said}", INSTALL)
    return ok(
        "runtime",
        f"{found['runtime']} with numpy {found['numpy']} ran a small int8 model in {found['run_s'] * 1e6:.0f} µs",
    )
