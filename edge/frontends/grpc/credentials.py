"""The certificate of the gRPC port, and the next one when its files change.

Rule: a pair that cannot be loaded changes nothing; the one in use holds. gRPC asks at each new connection.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from edge.files import open_regular
from edge.frontends.http.tls import no_passphrase

log = logging.getLogger(__name__)


def credentials(cert: Path, key: Path, client_ca: Path | None = None) -> Any:
    """client_ca: who must have signed the certificates that clients show, if they must. Blocks. Raises OSError, ssl.SSLError."""
    files = [cert, key, *([client_ca] if client_ca else [])]
    seen = _times(files)
    first = _load(cert, key, client_ca)

    def newer() -> Any:
        nonlocal seen
        try:
            now = _times(files)
            if now == seen:
                return None
            seen = now
            return _load(cert, key, client_ca)
        except (OSError, ssl.SSLError) as error:
            log.error("%s: not loaded, the old certificate holds: %s", cert, error)
            return None

    return grpc.dynamic_ssl_server_credentials(first, newer, require_client_authentication=client_ca is not None)


def _load(cert: Path, key: Path, client_ca: Path | None) -> Any:
    """Tried by the standard library first, whose errors can be read. Raises OSError, ssl.SSLError."""
    for file in (cert, key):
        open_regular(file).close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, no_passphrase)
    roots = None
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        roots = client_ca.read_bytes()
    return grpc.ssl_server_certificate_configuration([(key.read_bytes(), cert.read_bytes())], roots)


def _times(files: list[Path]) -> list[int]:
    """Raises OSError."""
    return [file.stat().st_mtime_ns for file in files]
