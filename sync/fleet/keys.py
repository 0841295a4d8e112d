"""The operator's keys: who may say what, where the private halves lie, and for how long a signature holds.

Rule 1: ed25519 only. Rule 2: a private key is a file of its own (PKCS #8, PEM, mode 0600), encrypted where a passphrase is
given; offline and online keys lie in separate directories, so that one can be put away. Rule 3: a key is never overwritten,
and on the disk before anything is signed that names it. Rule 4: beside the keys lies what their holder has seen of the
repository: its first root, and versions that it may not fall behind.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync.domain.errors import OperatorError

log = logging.getLogger(__name__)

OFFLINE, ONLINE = "offline", "online"
FIRST_ROOT, SEEN = "root.json", "seen.json"
SOON = 0.25
"""Of the time for which a role signs: with less left, its holder is told."""


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
    """Private keys by role: `<offline|online>/<role>-<n>.pem` below `directory`, and below those in `more`.

    passphrase: of every key, None for keys that are not encrypted. more: where else keys are, a holder's own medium each;
    new ones are made in `directory`. Its methods block.
    """

    def __init__(self, directory: Path, passphrase: bytes | None = None, *, more: Sequence[Path] = ()) -> None:
        self.directory, self._passphrase, self._more = directory, passphrase, tuple(more)
        self._loaded: dict[bytes, Ed25519PrivateKey] = {}  # by what is in the file, which may become another key's

    def make(self, role: Role) -> Sequence[Ed25519PrivateKey]:
        """New keys for a role, beside those that there are. Raises OperatorError where they cannot be written."""
        return [self._make(role) for _ in range(role.keys)]

    def keys(self, role: str) -> Sequence[Ed25519PrivateKey]:
        """Those that are here, the newest last; empty where they have been put away. Raises OperatorError."""
        return [self._load(path) for path in self.paths(role)]

    def paths(self, role: str) -> Sequence[Path]:
        found: dict[Path, int] = {}
        for directory in (self.directory, *self._more):
            for path in (directory / ROLES[role].place).glob(f"{role}-*.pem"):
                number = path.stem.rpartition("-")[2]
                if number.isdecimal() and path.stem == f"{role}-{number}":
                    found[path] = int(number)
        return sorted(found, key=lambda path: (found[path], path))

    def first_root(self) -> bytes | None:
        """What devices are provisioned with; None where this holder has not seen it yet. Raises OperatorError."""
        return _read(self.directory / FIRST_ROOT)

    def seen(self) -> Mapping[str, int]:
        """Versions by role that the repository had when it was last opened or changed. Raises OperatorError."""
        data = _read(self.directory / SEEN)
        try:
            return {} if data is None else msgspec.json.decode(data, type=dict[str, int])
        except ValueError as error:
            raise OperatorError(
                f"{self.directory / SEEN}: want versions by role: {error}; remove it if it is damaged"
            ) from None

    def keep_root(self, data: bytes) -> None:
        """Durably. Raises OperatorError."""
        _replace(self.directory / FIRST_ROOT, data)

    def remember(self, seen: Mapping[str, int]) -> None:
        """Durably, where keys are not on a medium that is read only: then it is told, and a protection is lost."""
        try:
            if dict(seen) != self.seen():
                _replace(self.directory / SEEN, msgspec.json.encode(seen, order="sorted"))
        except OperatorError as error:
            log.warning("what the store holds is not remembered: %s", error.message)

    def _make(self, role: Role) -> Ed25519PrivateKey:
        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._passphrase)
            if self._passphrase
            else serialization.NoEncryption(),
        )
        directory = self.directory / role.place
        numbers = [int(path.stem.rpartition("-")[2]) for path in self.paths(role.name)]
        path = directory / f"{role.name}-{max(numbers, default=0) + 1}.pem"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, data, os.O_EXCL)
            _sync_directory(directory)
        except OSError as error:
            raise OperatorError(f"{path}: cannot be written: {error.strerror}") from None
        self._loaded[data] = key
        return key

    def _load(self, path: Path) -> Ed25519PrivateKey:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise OperatorError(f"{path}: cannot be read: {error.strerror}") from None
        if data in self._loaded:
            return self._loaded[data]
        try:
            key = serialization.load_pem_private_key(data, self._passphrase)
        except TypeError:
            want = "a passphrase" if self._passphrase is None else "no passphrase"
            raise OperatorError(f"{path}: want {want}") from None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise OperatorError(f"{path}: want a private key in PEM and its passphrase: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise OperatorError(f"{path}: want a key of ed25519, got {type(key).__name__}")
        self._loaded[data] = key
        return key


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from None


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(fresh, data, os.O_TRUNC)
        fresh.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}") from None


def _write(path: Path, data: bytes, flag: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
