"""Private keys on the operator's disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync.domain.errors import OperatorError
from sync.fleet.keys import OFFLINE, ONLINE, ROLES, KeyRing


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def test_private_keys_are_their_owner_s_alone_and_are_never_overwritten(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    first = ring.make(ROLES["timestamp"])
    second = ring.make(ROLES["timestamp"])
    paths = ring.paths("timestamp")
    assert [path.name for path in paths] == ["timestamp-1.pem", "timestamp-2.pem"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    assert [raw(key) for key in KeyRing(tmp_path).keys("timestamp")] == [raw(key) for key in (*first, *second)]


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    KeyRing(tmp_path, b"secret").make(ROLES["timestamp"])
    assert b"ENCRYPTED" in KeyRing(tmp_path).paths("timestamp")[0].read_bytes()
    assert len(KeyRing(tmp_path, b"secret").keys("timestamp")) == 1
    for wrong in (None, b"other"):
        with pytest.raises(OperatorError, match="passphrase"):
            KeyRing(tmp_path, wrong).keys("timestamp")
    KeyRing(tmp_path / "plain").make(ROLES["timestamp"])
    with pytest.raises(OperatorError, match="want no passphrase"):
        KeyRing(tmp_path / "plain", b"secret").keys("timestamp")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / "timestamp-1.pem").write_text("hello")
    with pytest.raises(OperatorError, match="want a private key in PEM"):
        KeyRing(tmp_path).keys("timestamp")


def test_every_role_has_a_place_an_end_and_as_many_keys_as_must_sign() -> None:
    assert {name: role.place for name, role in ROLES.items()} == {
        "root": OFFLINE, "targets": OFFLINE, "releases": OFFLINE,
        "rollouts": ONLINE, "deltas": ONLINE, "snapshot": ONLINE, "timestamp": ONLINE,
    }  # fmt: skip
    assert {name: role.expiry.days for name, role in ROLES.items()} == {
        "root": 365, "targets": 180, "releases": 90, "rollouts": 3, "deltas": 3, "snapshot": 7, "timestamp": 1
    }  # fmt: skip
    assert (ROLES["root"].keys, ROLES["root"].threshold) == (3, 2)
    assert all(role.threshold <= role.keys for role in ROLES.values())


def test_offline_and_online_keys_lie_apart(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    for role in ROLES.values():
        ring.make(role)
    names = {place: sorted(path.name for path in (tmp_path / place).iterdir()) for place in (OFFLINE, ONLINE)}
    assert names[OFFLINE] == ["releases-1.pem", "root-1.pem", "root-2.pem", "root-3.pem", "targets-1.pem"]
    assert names[ONLINE] == ["deltas-1.pem", "rollouts-1.pem", "snapshot-1.pem", "timestamp-1.pem"]
    assert (tmp_path / OFFLINE).stat().st_mode & 0o777 == 0o700


def test_keys_on_other_media_are_found_too(tmp_path: Path) -> None:
    """Each holder of a root key has it on a medium of his own."""
    ring = KeyRing(tmp_path / "a")
    ring.make(ROLES["root"])
    for number, place in ((2, "b"), (3, "c")):
        (tmp_path / place / "offline").mkdir(parents=True)
        name = f"offline/root-{number}.pem"
        (tmp_path / "a" / name).rename(tmp_path / place / name)
    assert len(KeyRing(tmp_path / "a").keys("root")) == 1
    both = KeyRing(tmp_path / "a", more=(tmp_path / "b", tmp_path / "c"))
    assert [raw(key) for key in both.keys("root")] == [raw(key) for key in ring.keys("root")] or len(
        both.keys("root")
    ) == 3
    both.make(ROLES["root"])
    assert sorted(path.name for path in (tmp_path / "a" / "offline").iterdir())[-1] == "root-6.pem"


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "online").mkdir()
    data = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "online" / "timestamp-1.pem").write_bytes(data)
    with pytest.raises(OperatorError, match=r"timestamp-1\.pem: want a key of ed25519, got"):
        KeyRing(tmp_path).keys("timestamp")


def test_files_that_are_no_keys_are_left_alone(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.make(ROLES["timestamp"])
    for name in ("timestamp-old.pem", "timestamp-01.pem.bak", "timestamp.pem", "timestamp--2.pem"):
        (tmp_path / "online" / name).write_bytes(b"")
    assert len(ring.keys("timestamp")) == 1


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    assert (ring.seen(), ring.first_root()) == ({}, None)
    ring.remember({"timestamp": 7})
    ring.keep_root(b"root")
    assert (KeyRing(tmp_path).seen(), KeyRing(tmp_path).first_root()) == ({"timestamp": 7}, b"root")
    (tmp_path / "seen.json").write_bytes(b"\0\0")
    with pytest.raises(OperatorError, match=r"seen\.json: want versions by role"):
        ring.seen()


def test_a_medium_that_is_read_only_costs_the_memory_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(tmp_path / "file" / "keys")
    (tmp_path / "file").write_bytes(b"not a directory")
    with caplog.at_level(logging.WARNING), pytest.raises(OperatorError):
        ring.keep_root(b"root")
    ring.remember({"timestamp": 7})
    assert "what the store holds is not remembered" in caplog.text


def test_a_key_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "online").write_bytes(b"not a directory")
    with pytest.raises(OperatorError, match=r"timestamp-1\.pem: cannot be written"):
        KeyRing(tmp_path).make(ROLES["timestamp"])


def test_names_of_existing_keys_are_never_taken_again(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.make(ROLES["timestamp"])
    ring.make(ROLES["timestamp"])
    os.unlink(tmp_path / "online" / "timestamp-1.pem")
    ring.make(ROLES["timestamp"])
    assert [path.name for path in ring.paths("timestamp")] == ["timestamp-2.pem", "timestamp-3.pem"]
