"""Which platforms there are, and what is on disk for them.

Rule: a backend's module is imported when the first model of its platform asks for it, and not before.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from edge.domain.errors import LoadError
from edge.domain.layout import MODEL_FILES
from edge.domain.models import Platform
from edge.domain.ports import Backend

BACKENDS = {
    Platform.TFLITE: "edge.backends.tflite:TfliteBackend",
    Platform.SAVEDMODEL: "edge.backends.savedmodel:SavedModelBackend",
}

GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/nvhost-gpu"), Path("/dev/kfd"), Path("/dev/dxg"))


def backend_for(platform: Platform) -> Backend:
    """The one backend of a platform. Raises LoadError where this installation has none."""
    return backend_at(BACKENDS[platform])


@cache
def backend_at(place: str) -> Backend:
    """From `module:Class`, made without arguments. Raises LoadError."""
    module, _, name = place.partition(":")
    try:
        return cast(Backend, getattr(import_module(module), name)())
    except (ImportError, AttributeError) as error:
        raise LoadError(f"backend {place} is not installed: {error}") from None


def preferred(wish: str = "auto") -> tuple[Platform, ...]:
    """Which platform runs of a version that is there for several, the first that is. `auto`: TFLite, but on a host with
    TensorFlow and a GPU. Touches the disk."""
    both = (Platform.TFLITE, Platform.SAVEDMODEL)
    chosen = wish == Platform.SAVEDMODEL.value or (wish == "auto" and has_gpu() and find_spec("tensorflow") is not None)
    return both[::-1] if chosen else both


def has_gpu() -> bool:
    """Whether a driver that TensorFlow can use has made its device."""
    return any(path.exists() for path in GPU_DEVICES)


def platform_of(path: Path, prefer: str = "auto") -> Platform | None:
    """Of a version's directory, the preferred one where several are there, or of the one file that it consists of. Touches
    the disk."""
    if path.is_file():
        return Platform.TFLITE if path.suffix == ".tflite" else None
    there = {platform for name, platform in MODEL_FILES.items() if (path / name).is_file()}
    return next((platform for platform in preferred(prefer) if platform in there), None)
