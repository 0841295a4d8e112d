"""Where things lie in a store. Pure.

metadata/timestamp.json          the only object that changes; written last, by compare-and-swap
metadata/<N>.<role>.json         immutable
targets/<directory>/<sha256>.<name>   signed documents, named as TUF's consistent snapshots are
blobs/sha256/<hex>               files of models, and patches; immutable
<immutable metadata or document>.z1   the same, condensed, as it travels: `sync.stores.condensed`
"""

from __future__ import annotations

from collections.abc import Iterable

from sync.domain.digests import Digest, hex_of

TIMESTAMP = "metadata/timestamp.json"
PINS_PREFIX = "rollouts/pins/"
PINS = f"{PINS_PREFIX}<bin>.json"
"""A rollout document's `pins_ref`; <bin>: two hex digits, as `sync.domain.rollout.pin_bin` has them."""


def metadata_path(role: str, version: int) -> str:
    return f"metadata/{version}.{role}.json"


def blob_path(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def target_path(name: str, digest: Digest) -> str:
    """`name` is a target's path, e.g. `models/m/1/manifest.json`."""
    directory, _, last = name.rpartition("/")
    return f"targets/{directory}/{hex_of(digest)}.{last}"


def manifest_name(model: str, version: int) -> str:
    return f"models/{model}/{version}/manifest.json"


def withdrawn_name(model: str) -> str:
    """Where the versions would be, since the keys of releases may speak of nothing else."""
    return f"models/{model}/withdrawn/manifest.json"


def deltas_name(model: str, version: int) -> str:
    return f"models/{model}/{version}/deltas.json"


def rollout_name(group: str) -> str:
    return f"rollouts/{group}.json"


def groups_of(names: Iterable[str]) -> list[str]:
    """Of targets those that are groups' rollouts, by their groups, in order."""
    parts = [name.split("/") for name in names]
    return sorted(part[1].removesuffix(".json") for part in parts if part[0] == "rollouts" and len(part) == 2)
