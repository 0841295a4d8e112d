"""The configuration's models as sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.config import Config, Model
from edge.domain.models import Platform
from edge.domain.ports import Keepsakes, Source
from edge.sources.directory import DirectorySource, Wish
from edge.sources.file import FileSource
from edge.sources.repository import RepositorySource
from edge.sources.watch import Changes

REPOSITORY = "/"


Preferred = Callable[[str], tuple[Platform, ...]]


def sources_of(config: Config, changes: Changes, keepsakes: Keepsakes, preferred: Preferred) -> dict[str, Source]:
    """By model name; the repository under a name that no model can have. Blocks for a moment: it looks what is a file.

    preferred: the order of platforms that a key `prefer` stands for.
    """
    sources: dict[str, Source] = {
        name: _source(name, model, changes, keepsakes, preferred(model.prefer)) for name, model in config.models.items()
    }
    if config.repository.path is not None:
        prefer = preferred(config.repository.prefer)
        sources[REPOSITORY] = RepositorySource(
            config.repository.path,
            changes,
            lambda name, path: DirectorySource(Wish(name, path, prefer=prefer), changes, keepsakes=keepsakes),
            skip=frozenset(config.models),
        )
    return sources


def unchanged(old: Config, new: Config) -> set[str]:
    """The keys of `sources_of` that mean the same in both."""
    before = {name: model.unrouted for name, model in old.models.items()}
    same = {name for name, model in new.models.items() if before.get(name) == model.unrouted}
    if old.repository == new.repository and old.models.keys() == new.models.keys():
        same.add(REPOSITORY)
    return same


def watched(config: Config) -> list[Path]:
    """Directories below which changes are to be noticed. Blocks for a moment.

    A model that is one file is looked at every `poll_s` and no more: to watch what it lies in, with all that is below,
    may be to watch somebody's home, and our own log in it.
    """
    paths = [model.path for model in config.models.values() if not _is_file(model.path)]
    return [*paths, *([config.repository.path] if config.repository.path else [])]


def _is_file(path: Path) -> bool:
    """A model that is not there yet is told by its name."""
    return path.is_file() or (path.suffix == ".tflite" and not path.is_dir())


def _source(name: str, model: Model, changes: Changes, keepsakes: Keepsakes, prefer: tuple[Platform, ...]) -> Source:
    if _is_file(model.path):
        return FileSource(name, model.path, changes, swap=model.swap, options=model.options)
    return DirectorySource(
        Wish(
            name=name,
            path=model.path,
            policy=model.version_policy,
            labels=dict(model.labels),
            swap=model.swap,
            options=model.options,
            prefer=prefer,
        ),
        changes,
        keepsakes=keepsakes,
    )
