"""Telling the server what it should serve: `aspired.json` in the model's directory, replaced by rename.

Rule: written only when it would say something else, and always after the journal says the same.
"""

from __future__ import annotations

import json
from pathlib import Path

from edge.domain.layout import ASPIRED_FILE, ASPIRED_FORMAT, AspiredFile
from sync.domain.durable import replace_durably
from sync.domain.errors import DiskError
from sync.domain.ports import Files


def write_aspired(files: Files, model: Path, aspired: AspiredFile) -> None:
    """Durably. Blocks. Raises DiskError."""
    data = encode_aspired(aspired)
    path = model / ASPIRED_FILE
    if _says(files, path, data):
        return
    try:
        files.make(model)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}") from None
    replace_durably(files, path, data)


def _says(files: Files, path: Path, data: bytes) -> bool:
    """What cannot be read says nothing, and is replaced."""
    try:
        return files.size(path) == len(data) and files.read(path) == data
    except OSError:
        return False


def encode_aspired(aspired: AspiredFile) -> bytes:
    document = {
        "format": ASPIRED_FORMAT,
        "generation": aspired.generation,
        "versions": list(aspired.versions),
        "fallback": aspired.fallback,
        "labels": dict(aspired.labels),
        "swap": aspired.swap.value,
    }
    return json.dumps(document).encode() + b"\n"
