"""Which versions of a model there are, which there were, and which of them rollouts name.

Rule: whoever goes by what nobody names must know all that anybody does: a document that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from sync.domain.errors import Missing
from sync.domain.layout import PINS_PREFIX, manifest_name, withdrawn_name
from sync.domain.release import Manifest, parse_manifest
from sync.domain.rollout import Pins, Rollout, parse_pins, parse_rollout
from sync.domain.withdrawn import FORMAT, Withdrawn, parse_withdrawn
from sync.fleet.parallel import each
from sync.fleet.progress import Progress
from sync.fleet.sign import Repository

How = Literal["stable", "candidate", "rolled back", "pinned"]


class Use(NamedTuple):
    """`where`: a group or a device that a version is named for."""

    model: str
    version: int
    how: How
    where: str

    def __str__(self) -> str:
        texts: dict[How, str] = {
            "stable": "stable in group {}",
            "candidate": "the candidate of group {}",
            "rolled back": "being rolled back in group {}, until that starts another",
            "pinned": "pinned on {}",
        }
        return texts[self.how].format(self.where)


async def versions_of(repository: Repository, model: str) -> Sequence[int]:
    """That are released, the newest first. Raises StoreError, TrustError."""
    found = (name.split("/") for name in await repository.names("releases"))
    return sorted((int(parts[2]) for parts in found if parts[1] == model and parts[2].isdecimal()), reverse=True)


async def read_manifest(repository: Repository, model: str, version: int) -> Manifest:
    """Raises Missing, StoreError, TrustError, DocumentError."""
    data = await repository.read("releases", manifest_name(model, version))
    if data is None:
        raise Missing(f"{model}@{version}: is not released")
    return parse_manifest(data)


async def read_withdrawn(repository: Repository, model: str) -> Withdrawn:
    """Raises StoreError, TrustError, DocumentError."""
    data = await repository.read("releases", withdrawn_name(model))
    return Withdrawn(FORMAT, model) if data is None else parse_withdrawn(data)


async def read_uses(repository: Repository, progress: Progress) -> Sequence[Use]:
    """What all groups and pins name. Raises StoreError, TrustError, DocumentError."""
    names = await repository.names("rollouts")
    uses: list[Use] = []
    progress.begin("rollouts", len(names))

    async def read(name: str) -> None:
        data = await repository.read("rollouts", name)
        if data is not None:
            uses.extend(_pinned(parse_pins(data)) if name.startswith(PINS_PREFIX) else _rolled_out(parse_rollout(data)))
        progress.step()

    await each(names, read)
    progress.end()
    return sorted(uses)


def _rolled_out(document: Rollout) -> Iterator[Use]:
    for model, wanted in document.models.items():
        if wanted.stable is not None:
            yield Use(model, wanted.stable, "stable", document.group)
        if wanted.candidate is not None:
            how: How = "rolled back" if wanted.candidate.state == "rolling_back" else "candidate"
            yield Use(model, wanted.candidate.version, how, document.group)


def _pinned(document: Pins) -> Iterator[Use]:
    for device, pins in document.devices.items():
        for model, pin in pins.items():
            yield Use(model, pin.version, "pinned", device)
