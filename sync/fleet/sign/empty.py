"""Who may speak of what: a repository without documents, and new keys for a role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from securesystemslib.signer import Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    Role,
    Root,
    Snapshot,
    SuccinctRoles,
    Targets,
    Timestamp,
)

from sync.domain.ports import ReadStore
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign.signing import signers
from sync.fleet.sign.state import TOP, State

PATTERNS: Mapping[str, Sequence[str]] = {
    "releases": ("models/*/*/manifest.json",),
    "rollouts": ("rollouts/*.json", "rollouts/pins/*.json"),
    "deltas": ("models/*/*/deltas.json",),
}
"""Disjoint: no key can speak of what is another's."""


def empty_state(store: ReadStore, keys: KeyRing, bins: Mapping[str, int]) -> State:
    """Of version 0, not signed yet. bins: how many bits of a name's digest choose its bin, by role; none for a flat one.

    Raises OperatorError without all keys.
    """
    root = Root(consistent_snapshot=True)
    for role in ("root", TOP, "snapshot", "timestamp"):
        for signer in signers(keys, role, at_least=ROLES[role].keys):
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = ROLES[role].threshold
    root.version = 0
    public: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    targets: dict[str, Metadata[Targets]] = {}
    for name, patterns in PATTERNS.items():
        own = {each.public_key.keyid: each.public_key for each in signers(keys, name, at_least=ROLES[name].keys)}
        threshold = ROLES[name].threshold
        public |= own
        roles[name] = DelegatedRole(name, list(own), threshold, True, paths=list(patterns))
        if bits := bins.get(name, 0):
            divided = SuccinctRoles(list(own), threshold, bits, f"{name}.bin")
            targets[name] = Metadata(Targets(delegations=Delegations(own, succinct_roles=divided)))
            targets |= {each: Metadata(Targets()) for each in divided.get_roles()}
        else:
            targets[name] = Metadata(Targets())
    targets[TOP] = Metadata(Targets(delegations=Delegations(public, dict(roles))))
    snapshot, timestamp = Metadata(Snapshot()), Metadata(Timestamp())
    snapshot.signed.meta = {}
    signed: list[Snapshot | Timestamp | Targets] = [snapshot.signed, timestamp.signed]
    for each in [*signed, *(metadata.signed for metadata in targets.values())]:
        each.version = 0  # the first commit makes it 1
    return State(store, Metadata(root), timestamp, snapshot, targets)


def delegate_anew(state: State, role: str, fresh: Sequence[Signer]) -> None:
    """The role's keys are these, and no others; its bins' too."""
    above: list[tuple[Targets, str | None, Role]] = [(state.targets[TOP].signed, role, state.delegations[role])]
    if (bins := state.bins(role)) is not None:
        above.append((state.targets[role].signed, None, bins))
    for delegator, name, delegated in above:
        for keyid in list(delegated.keyids):
            delegator.revoke_key(keyid, name)
        for signer in fresh:
            delegator.add_key(signer.public_key, name)
