"""The operator's keys: who may say what, where the private halves lie, and for how long a signature holds.

Rule 1: ed25519 only. Rule 2: a private key is a file of its own (PKCS #8, PEM, mode 0600), encrypted where a passphrase is
given; offline and online keys lie in separate directories, so that one can be put away. Rule 3: a key is never overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer

from sync.domain.errors import OperatorError

OFFLINE, ONLINE = "offline", "online"


@dataclass(frozen=True, slots=True)
class Role:
    """`keys` are made, of which `threshold` must sign; what they sign holds for `expiry`."""

    name: str
    place: str
    expiry: timedelta
    keys: int = 1
    threshold: int = 1


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role("root", OFFLINE, timedelta(days=365), keys=3, threshold=2),
            Role("targets", OFFLINE, timedelta(days=180)),
            Role("releases", OFFLINE, timedelta(days=90)),
            Role("rollouts", ONLINE, timedelta(days=3)),
            Role("deltas", ONLINE, timedelta(days=3)),
            Role("snapshot", ONLINE, timedelta(days=7)),
            Role("timestamp", ONLINE, timedelta(days=1)),
        )
    }
)


class KeyRing:
    """Private keys by role, below one directory: `<offline|online>/<role>-<n>.pem`.

    passphrase: of every key, None for keys that are not encrypted.
    """

    def __init__(self, directory: Path, passphrase: bytes | None = None) -> None:
        self._directory, self._passphrase = directory, passphrase

    def make(self, role: Role) -> Sequence[Signer]:
        """New keys for a role, beside those that there are. Raises OperatorError where they cannot be written."""
        return [self._make(role) for _ in range(role.keys)]

    def signers(self, role: str) -> Sequence[Signer]:
        """Those that are here, the newest last; empty where they have been put away. Raises OperatorError."""
        return [self._load(path) for path in self.paths(role)]

    def paths(self, role: str) -> Sequence[Path]:
        directory = self._directory / ROLES[role].place
        found = {path: path.stem.rpartition("-")[2] for path in directory.glob(f"{role}-*.pem")}
        return sorted((path for path, number in found.items() if number.isdigit()), key=lambda path: int(found[path]))

    def _make(self, role: Role) -> Signer:
        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._passphrase)
            if self._passphrase
            else serialization.NoEncryption(),
        )
        directory = self._directory / role.place
        numbers = [int(path.stem.rpartition("-")[2]) for path in self.paths(role.name)]
        path = directory / f"{role.name}-{max(numbers, default=0) + 1}.pem"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
        except OSError as error:
            raise OperatorError(f"{path}: cannot be written: {error.strerror}") from None
        return CryptoSigner(key)

    def _load(self, path: Path) -> Signer:
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), self._passphrase)
        except OSError as error:
            raise OperatorError(f"{path}: cannot be read: {error.strerror}") from None
        except TypeError:
            want = "a passphrase" if self._passphrase is None else "no passphrase"
            raise OperatorError(f"{path}: want {want}") from None
        except ValueError as error:
            raise OperatorError(f"{path}: want a private key in PEM and its passphrase: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise OperatorError(f"{path}: want a key of ed25519, got {type(key).__name__}")
        return CryptoSigner(key)
