"""The one place that knows which TFLite runtime is installed: LiteRT, or its predecessor tflite-runtime.

Rule 1: imported when the first TFLite model is loaded, never before: a runtime takes 0.1 s and 20 MB.
Rule 2: `EDGE_RUNTIME` chooses: `litert`, `tflite`, or `auto` (LiteRT where it can be imported, else tflite-runtime).
Rule 3: LoadError is all that comes out.

Both have the same `Interpreter`, so callers see no difference. LiteRT is many times faster on quantized convolutions;
tflite-runtime has wheels for boards that LiteRT left behind.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from edge.domain.errors import LoadError

VARIABLE = "EDGE_RUNTIME"
_PACKAGES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite": ("tflite_runtime.interpreter", "tflite-runtime"),
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """`Interpreter` is the runtime's own class; `name` is the package's."""

    name: str
    Interpreter: Any

    @property
    def version(self) -> str:
        from importlib.metadata import PackageNotFoundError, version  # only who asks pays for it

        try:
            return version(self.name)
        except PackageNotFoundError:
            return "of unknown version"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def runtime() -> Runtime:
    """The runtime that `EDGE_RUNTIME` asks for. Raises LoadError when it is not installed, or not one that we know."""
    return _import(os.environ.get(VARIABLE) or "auto")


@cache
def _import(choice: str) -> Runtime:
    if choice != "auto" and choice not in _PACKAGES:
        raise LoadError(f"{VARIABLE}: want auto, {' or '.join(_PACKAGES)}, got {choice!r}")
    problems = []
    for name in _PACKAGES if choice == "auto" else (choice,):
        module, package = _PACKAGES[name]
        try:
            return Runtime(package, import_module(module).Interpreter)
        except (ImportError, OSError, AttributeError) as error:
            problems.append(f"{package}: {error}")
    raise LoadError(
        f"no TFLite runtime can be imported ({'; '.join(problems)}): install ai-edge-litert, or edge-serving[tflite]"
    )
