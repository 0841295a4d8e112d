"""What a path on the command line means: a file, one version, one model's versions, or a directory of models."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edge.cli.exits import NOT_FOUND, Failure
from edge.domain.layout import MODEL_FILES, is_model_name, version_of

Flags = dict[str, object]


def target(path: Path, name: str = "") -> Flags:
    """The settings that serve `path`, under `name` if one is given. Looks at the disk.

    Raises Failure(NOT_FOUND), and UsageError for what cannot be a model.
    """
    path = path.absolute()
    if not path.exists():
        raise Failure(f"{path}: no such file or directory", NOT_FOUND)
    if path.is_file() and path.name in MODEL_FILES and version_of(path.parent.name) is not None:
        return _one_version(path.parent, name)
    if not path.is_dir():
        return _file(path, name)
    if any((path / file).is_file() for file in MODEL_FILES):
        if version_of(path.name) is not None:
            return _one_version(path, name)
        return _file(next(path / file for file in MODEL_FILES if (path / file).is_file()), name)
    if name or _has_versions(path):
        return {f"models.{name or model_name(path.name)}.path": path}
    return {"repository.path": path}


def _has_versions(directory: Path) -> bool:
    try:
        return any(version_of(child.name) is not None for child in directory.iterdir() if child.is_dir())
    except OSError as error:
        raise Failure(f"{directory}: {error.strerror}") from None


def _one_version(directory: Path, name: str) -> Flags:
    key = f"models.{name or model_name(directory.parent.name)}"
    return {f"{key}.path": directory.parent, f"{key}.policy": f"specific:{version_of(directory.name)}"}


def _file(path: Path, name: str) -> Flags:
    if path.name == "saved_model.pb":
        raise click.UsageError(f"{path}: want it in a directory named by its version, as in NAME/1/saved_model.pb")
    if path.suffix not in (".tflite", ".lite"):
        raise click.UsageError(f"{path}: want a .tflite file or a directory")
    stem = path.parent.name if path.name in MODEL_FILES else path.stem
    return {f"models.{name or model_name(stem)}.path": path}


def model_name(text: str) -> str:
    """The nearest name that a model may have."""
    near = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip("_.-")[:128]
    return near or "model"


def named_target(text: str) -> Flags:
    """The settings for `NAME=PATH`. Raises UsageError, Failure(NOT_FOUND)."""
    name, equals, path = text.partition("=")
    if not equals or not path or not is_model_name(name):
        raise click.UsageError(f"--model: want NAME=PATH, got {text!r}")
    return target(Path(path).expanduser(), name)
