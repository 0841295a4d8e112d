"""The names of a classifier's classes: `labels.txt`, one a line, in the order of the scores."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.domain.models import ModelId
from edge.domain.ports import LoadedModel
from edge.files import open_regular

log = logging.getLogger(__name__)

MAX_BYTES = 4 << 20


def read_class_names(path: Path) -> tuple[str, ...]:
    """Blocks. Empty where there is no file; an unreadable one costs the names and not the model."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        log.warning("%s: %s; classes have no names", path, error)
        return ()
    if len(data) > MAX_BYTES:
        log.warning("%s: larger than %d bytes; classes have no names", path, MAX_BYTES)
        return ()
    return tuple(data.decode("utf-8", "replace").splitlines())


def doubt_names(id: ModelId, model: LoadedModel, names: tuple[str, ...]) -> None:
    """Say so where no output has as many classes as there are names."""
    sizes = {spec.shape[-1] for each in model.signatures.values() for spec in each.outputs.values() if spec.shape}
    if names and sizes and not sizes & {-1, len(names)}:
        classes = " or ".join(map(str, sorted(sizes)))
        log.warning("%s: labels.txt has %d names, for outputs of %s classes", id, len(names), classes)
