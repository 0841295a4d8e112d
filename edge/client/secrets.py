"""Tokens and certificates that a caller names."""

from __future__ import annotations

import ssl
from os import PathLike

from edge.client.address import Address


def checked_token(token: str | None) -> str | None:
    """Raises ValueError, which does not show it."""
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("token: want printable ASCII without blanks")
    return token


def context(address: Address, ca_file: str | PathLike[str] | None) -> ssl.SSLContext | None:
    """Whom to trust: the certificates of the system, and those in `ca_file`. None for plain HTTP. Raises OSError."""
    if not address.tls:
        return None
    made = ssl.create_default_context()
    if ca_file is not None:
        made.load_verify_locations(cafile=ca_file)
    return made
