"""Which platforms there are, and what is on disk for them.

Rule: a backend's module is imported when the first model of its platform asks for it, and not before.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
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


def platform_of(path: Path) -> Platform | None:
    """Of a version's directory, or of the one file that it consists of; TFLite where both are there. Touches the disk."""
    if path.is_file():
        return Platform.TFLITE if path.suffix == ".tflite" else None
    return next((platform for name, platform in MODEL_FILES.items() if (path / name).is_file()), None)
