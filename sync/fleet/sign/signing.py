"""Signatures, from the keys that are here.

Rule: signed by every key in force that is here; by less than the threshold, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Role
from tuf.api.serialization.json import JSONSerializer

from sync.domain.errors import OperatorError
from sync.fleet.keys import ROLES, KeyRing
from sync.fleet.sign.state import Signable

SERIALIZER = JSONSerializer(compact=True)


def signers(keys: KeyRing, role: str, *, at_least: int = 0) -> Sequence[Signer]:
    """Of all the role's keys that are here. Raises OperatorError."""
    found = [CryptoSigner(key) for key in keys.keys(role)]
    if len(found) < at_least:
        raise OperatorError(f"want {at_least} private keys of the role {role}, found {len(found)}")
    return found


def made(keys: KeyRing, role: str) -> Sequence[Signer]:
    """Of new keys. Raises OperatorError."""
    return [CryptoSigner(key) for key in keys.make(ROLES[role])]


def in_force(keys: KeyRing, family: str, role: Role) -> Sequence[Signer]:
    """Of those keys of `family` that `role` is signed with. Raises OperatorError for less than its threshold."""
    mine = [each for each in signers(keys, family) if each.public_key.keyid in role.keyids]
    if len(mine) < role.threshold:
        raise OperatorError(
            f"want {role.threshold} private keys of the role {family}, found {len(mine)} that are in force"
            f" in {keys.directory / ROLES[family].place}"
        )
    return mine


def signed(metadata: Signable, by: Iterable[Signer], *, version: int, expires: datetime) -> bytes:
    """The metadata's bytes, with this version and expiry."""
    metadata.signed.version = version
    metadata.signed.expires = expires.replace(microsecond=0)
    metadata.signatures.clear()
    for signer in {each.public_key.keyid: each for each in by}.values():
        metadata.sign(signer, append=True)
    return metadata.to_bytes(SERIALIZER)
