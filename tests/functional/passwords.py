"""Mosquitto's file of passwords, as `mosquitto_passwd` writes it: PBKDF2 with SHA-512. It is not everywhere that Mosquitto is."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

ROUNDS = 101


def write_passwords(file: Path, users: Mapping[str, str]) -> None:
    """`users`: passwords by name."""
    lines = []
    for user, password in users.items():
        salt = os.urandom(12)
        key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
        lines.append(f"{user}:$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n")
    file.write_text("".join(lines))
