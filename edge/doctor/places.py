"""Checks of the configuration, and of what it names on the disk. Blocks; changes nothing, makes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge.config import Config, ConfigError, Resolved, absent_models, missing_files
from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.machine import MIB, Machine, amount
from edge.domain.layout import MODEL_FILES, is_model_name, version_of

LEAST_FREE_BYTES = 64 * MIB
"""On the state directory's disk. The server writes little; others that fill the disk take its memory of versions that failed."""
MEND = "mend it; `edge config check` says it again"


def check_configuration(read: Resolved | ConfigError) -> Iterator[Finding]:
    if isinstance(read, ConfigError):
        for problem in read.problems:
            yield fail("configuration", problem, MEND)
        return
    for problem in (missing := missing_files(read.config, read.origins)):
        yield fail("configuration", problem, MEND)
    for doubt in (*read.warnings, *absent_models(read.config)):
        yield warn("configuration", doubt)
    if not missing:
        yield ok("configuration", f"valid: {_files(read)}")


def _files(read: Resolved) -> str:
    files = {origin.rpartition(":")[0] for origin in read.origins.values() if ":" in origin}
    others = sum(origin != "default" and ":" not in origin for origin in read.origins.values())
    said = [*sorted(files), *([f"{others} keys of the environment and of flags"] if others else [])]
    return ", ".join(said) or "nothing but defaults"


def check_models(machine: Machine, config: Config) -> Iterator[Finding]:
    """Whether the server, if it is this user, may read what it would serve."""
    if not (paths := model_paths(config)):
        yield ok("models", "the configuration names none: `edge serve MODEL` does")
    for key, path in paths.items():
        if not path.exists():
            continue  # what is not there yet, the configuration's check says
        barred = [each for each in (path, *_within(path)) if not _readable(machine, each)]
        if barred:
            more = f" and {len(barred) - 1} more" if len(barred) > 1 else ""
            yield fail(
                "models", f"{key}: {barred[0]}{more}: may not be read", "let the server's user read it: see ls -l"
            )
        elif path.is_dir() and not (versions := list(_version_files(path))):
            yield warn(
                "models", f"{key}: {path}: no NAME/VERSION/model.tflite is in it", "`edge check PATH` tries a version"
            )
        else:
            yield ok("models", f"{key}: {path}: " + (f"{len(versions)} versions" if path.is_dir() else "one file"))


def model_paths(config: Config) -> dict[str, Path]:
    """What the configuration names, by key. A model that lies in the repository is counted there."""
    paths = {f"models.{name}.path": model.path for name, model in config.models.items()}
    if config.repository.path is None:
        return paths
    inside = {key: path for key, path in paths.items() if path.parent != config.repository.path}
    return {"repository.path": config.repository.path} | inside


def model_sizes(config: Config) -> list[int]:
    """Of every version's file: bytes."""
    sizes = []
    for path in model_paths(config).values():
        for file in _version_files(path) if path.is_dir() else [path]:
            try:
                sizes.append(file.stat().st_size)
            except OSError:
                continue
    return sizes


def _version_files(path: Path) -> Iterator[Path]:
    """Below a model's directory of versions, or a directory of such."""
    for directory in (path, *(each for each in _children(path) if is_model_name(each.name))):
        for version in _children(directory):
            if version_of(version.name) is not None:
                yield from (version / name for name in MODEL_FILES if (version / name).exists())


def _children(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir())
    except OSError:
        return []


def _within(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in _version_files(path):
            yield from (file.parent, file)
        yield from _children(path)


def _readable(machine: Machine, path: Path) -> bool:
    return machine.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))


def check_state(machine: Machine, config: Config, free: int | None = None) -> Finding:
    """The state directory: whether it can be written to, and has room. `free`: bytes, in place of what the disk says."""
    wanted = config.server.state_dir
    place = nearest(wanted)
    if not place.is_dir():
        return fail("state", f"{place}: want a directory", "set server.state_dir to another")
    if not machine.access(place, os.W_OK | os.X_OK):
        text = f"{wanted}: may not be written to" if place == wanted else f"{wanted} cannot be made in {place}"
        return fail(
            "state", f"{text}: what failed would be forgotten", "chown it to the server's user, or set server.state_dir"
        )
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize if free is None else free
    if disk.f_files and not disk.f_favail:
        return fail("state", f"{place}: no file can be made: all {disk.f_files} are taken", "remove files")
    if free < MIB:
        return fail("state", f"{place}: the disk is full", "make room: `df -h` and `du -xh` say what takes it")
    if free < LEAST_FREE_BYTES:
        return warn(
            "state", f"{place}: {amount(free)} are free: want {amount(LEAST_FREE_BYTES)}", "make room on the disk"
        )
    made = "can be written to" if place == wanted else "is made at the first start"
    return ok("state", f"{wanted} {made}; {amount(free)} are free")


def nearest(path: Path) -> Path:
    """The path, or what is above it and there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
