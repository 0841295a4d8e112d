"""What tuf 7.0.1 keeps to itself, and this package needs: all of it is here, and a test holds it to be what it is.

Rule: nothing else touches a private name of tuf. Asked of it: a time to judge by, the roles that were verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from tuf.api.metadata import Key, Role, Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from sync.domain.digests import Digest
from sync.trust.floor import MAX_TIME_S, Family, Floor

TUF_VERSION = "7.0.1"
"""The one that was read; a newer one is, when this file's test has passed with it."""


def set_reference_time(updater: Updater, seconds: float) -> None:
    """By which time expiry is judged, in seconds since the epoch: to be set before the refresh."""
    updater._trusted_set.reference_time = datetime.fromtimestamp(min(max(seconds, 0.0), MAX_TIME_S), UTC)


def verified(updater: Updater) -> Iterator[Signed]:
    """Every role that was verified, in the order in which it was."""
    return iter(updater._trusted_set)


def names_by_content(updater: Updater) -> bool:
    """Whether the names of targets begin with their digests (consistent snapshots)."""
    return bool(updater._trusted_set.root.consistent_snapshot)


def keys_of(signed: Signed) -> Mapping[str, Key]:
    """Keys that the role speaks for."""
    if isinstance(signed, Root):
        return signed.keys
    if isinstance(signed, Targets) and signed.delegations is not None:
        return signed.delegations.keys
    return {}


def seen_by(updater: Updater, *, provisioned: Digest, now: float) -> Floor:
    """What a refresh has verified: every role that the snapshot names, by the keys that answer for it."""
    trusted = updater._trusted_set
    top = trusted.root.roles
    families = {
        name: _family(top[name], {name: trusted[name].version})
        for name in (Timestamp.type, Snapshot.type, Targets.type)
    }
    delegations = trusted.targets.delegations
    delegated: Mapping[str, Role] = (delegations.roles or {}) if delegations is not None else {}
    below: dict[str, dict[str, int]] = {}
    for file, meta in trusted.snapshot.meta.items():
        role = file.removesuffix(".json")
        below.setdefault(_family_of(role, delegated), {})[role] = meta.version
    for name, versions in below.items():
        families[name] = _family(delegated.get(name, top[Targets.type]), versions)
    return Floor(time=now, provisioned=provisioned, root=trusted.root.version, families=families)


def _family(role: Role, versions: Mapping[str, int]) -> Family:
    return Family(tuple(sorted(role.keyids)), role.threshold, versions)


def _family_of(role: str, delegated: Mapping[str, Role]) -> str:
    """`releases.bin-0a` is of the family `releases`; what nobody delegated to by name is the targets'."""
    for name in (role, role.partition(".")[0]):
        if name in delegated:
            return name
    return Targets.type
