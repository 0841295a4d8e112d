"""A certificate that is replaced: every handshake meets a whole pair, the old one or the new."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from edge.frontends.http.tls import Certificates

REPLACEMENTS = 200


@pytest.fixture
def pairs(openssl: str, tmp_path: Path) -> list[tuple[Path, Path]]:
    """Certificate and key of `first` and `second`."""
    made = []
    for name in ("first", "second"):
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        subject = ("-subj", f"/CN={name}", "-days", "2")
        command = [openssl, "req", "-x509", *kind, "-keyout", str(key), "-out", str(cert), *subject]
        subprocess.run(command, check=True, capture_output=True)
        made.append((cert, key))
    return made


def install(pair: tuple[Path, Path], directory: Path) -> None:
    for source, name in zip(pair, ("cert.pem", "cert.key"), strict=True):
        (directory / f".{name}").write_bytes(source.read_bytes())
        (directory / f".{name}").rename(directory / name)


def shown(server: ssl.SSLContext) -> bytes:
    """The certificate that a new connection gets. Raises ssl.SSLError where the handshake fails."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
                if not end.server_side:
                    certificate = end.getpeercert(binary_form=True)
            except ssl.SSLWantReadError:
                pass
    assert certificate is not None
    return certificate


def test_no_handshake_fails_while_the_certificate_is_replaced(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    install(pairs[0], tmp_path)
    certificates = Certificates(tmp_path / "cert.pem", tmp_path / "cert.key")
    replaced = threading.Event()

    async def replace() -> None:
        for number in range(REPLACEMENTS):
            install(pairs[(number + 1) % 2], tmp_path)
            await certificates.load()
        replaced.set()

    replacing = threading.Thread(target=asyncio.run, args=(replace(),))
    replacing.start()
    seen = set()
    try:
        while not replaced.is_set():
            seen.add(shown(certificates.context))
    finally:
        replacing.join()
    assert len(seen) == 2
    assert shown(certificates.context) == ssl.PEM_cert_to_DER_cert(pairs[0][0].read_text())


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    openssl: str, pairs: list[tuple[Path, Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(pairs[0], tmp_path)
    certificates = Certificates(tmp_path / "cert.pem", tmp_path / "cert.key")
    locked = tmp_path / "locked.key"
    cipher = ("-aes256", "-passout", "pass:secret")
    subprocess.run([openssl, "pkey", "-in", pairs[1][1], *cipher, "-out", locked], check=True, capture_output=True)
    install((pairs[1][0], locked), tmp_path)
    asyncio.run(certificates.load())
    assert "want a private key without a passphrase" in caplog.text
    assert shown(certificates.context) == ssl.PEM_cert_to_DER_cert(pairs[0][0].read_text())
