"""HTTPS: the certificate that is served, the next one, and clients that know whom to trust."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.functional.raw import Wire, connect, request
from tests.functional.server import Running, serving
from tests.functional.zoo import HALF, HALVED, half
from tests.waiting import until_blocking

PREDICT = "/v1/models/half:predict"


class Authority:
    """Signs certificates for loopback, each with a common name by which a test knows it."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self.directory, self.ca = directory, directory / "ca.pem"
        self._ca_key = directory / "ca.key"
        subject = ("-subj", "/CN=a test's authority", "-addext", "keyUsage=critical,keyCertSign")
        self._openssl("req", "-x509", *NEW_KEY, self._ca_key, "-out", self.ca, "-days", "2", *subject)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, in files of their own."""
        cert, key, wish = (self.directory / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self.directory / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", *NEW_KEY, key, "-out", wish, "-subj", f"/CN={name}")
        signed = ("-CA", self.ca, "-CAkey", self._ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
        self._openssl("x509", "-req", "-in", wish, "-out", cert, *signed)
        return cert, key

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run([self._program, *map(str, arguments)], check=True, capture_output=True)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")


@pytest.fixture(scope="module")
def authority(openssl: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(openssl, tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server has `cert.pem` and `cert.key`."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def shared(authority: Authority, files: Path) -> Iterator[Running]:
    install(authority.issue("first"), files)
    flags = ("--tls-cert", files / "cert.pem", "--tls-key", files / "cert.key")
    with serving(files, half(files), *flags, ready=False) as running:
        context = ssl.create_default_context(cafile=authority.ca)
        until_blocking(lambda: secure(running, context, "GET", "/v2/health/ready")[0] == 200)
        yield running


@pytest.fixture
def server(shared: Running, authority: Authority, files: Path) -> Running:
    """Serves `half` with the certificate `first`."""
    context = trusting(authority)
    if secure(shared, context, "GET", "/v2")[2] != "first":
        install(authority.issue("first"), files)
        shared.process.send_signal(signal.SIGHUP)
        until_blocking(lambda: secure(shared, context, "GET", "/v2")[2] == "first")
    return shared


def install(pair: tuple[Path, Path], directory: Path) -> None:
    for source, name in zip(pair, ("cert.pem", "cert.key"), strict=True):
        shutil.copy(source, directory / f".{name}")
        (directory / f".{name}").rename(directory / name)


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca)


def secure(
    server: Running, context: ssl.SSLContext, method: str, target: str, body: bytes | None = None
) -> tuple[int, bytes, str]:
    """Status, body and the common name of the server's certificate."""
    wrapped = context.wrap_socket(connect(server.port), server_hostname="127.0.0.1")
    with Wire(wrapped) as wire:
        answer = wire.ask(request(method, target, body), method=method)
        certificate = wrapped.getpeercert()
        assert certificate is not None
        names = dict(pair for part in certificate["subject"] for pair in part)  # type: ignore[misc]
        return answer.status, answer.body, str(names["commonName"])


def test_a_model_is_served_over_https_to_who_trusts_the_authority(server: Running, authority: Authority) -> None:
    status, body, name = secure(server, trusting(authority), "POST", PREDICT, HALF)
    assert (status, json.loads(body), name) == (200, HALVED, "first")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(server, ssl.create_default_context(), "GET", "/v2")
    assert "https://127.0.0.1" in server.log.read_text()


def test_a_replaced_certificate_is_served_to_new_connections_and_old_ones_live_on(
    server: Running, authority: Authority, files: Path
) -> None:
    context = trusting(authority)
    with Wire(context.wrap_socket(connect(server.port), server_hostname="127.0.0.1")) as old:
        assert old.ask(request("POST", PREDICT, HALF)).json() == HALVED
        install(authority.issue("second"), files)
        until_blocking(lambda: secure(server, context, "GET", "/v2")[2] == "second")
        assert old.ask(request("POST", PREDICT, HALF)).json() == HALVED
    install(authority.issue("third"), files)
    server.process.send_signal(signal.SIGHUP)
    until_blocking(lambda: secure(server, context, "GET", "/v2")[2] == "third")


def test_a_broken_replacement_keeps_the_old_certificate(server: Running, authority: Authority, files: Path) -> None:
    context = trusting(authority)
    _, foreign_key = authority.issue("other")
    sound = (files / "cert.pem").read_bytes(), (files / "cert.key").read_bytes()
    breakages = [
        ("cert.pem", b"no certificate"),
        ("cert.pem", sound[0][: len(sound[0]) // 2]),
        ("cert.key", foreign_key.read_bytes()),
        ("cert.key", None),
    ]
    for number, (name, content) in enumerate(breakages):
        if content is None:
            (files / name).unlink()
        else:
            (files / name).write_bytes(content)
        server.process.send_signal(signal.SIGHUP)
        until_blocking(partial(complained, server, number + 1))
        assert secure(server, context, "POST", PREDICT, HALF)[1:] == (
            json.dumps(HALVED, separators=(",", ":")).encode(),
            "first",
        )
        (files / "cert.pem").write_bytes(sound[0])
        (files / "cert.key").write_bytes(sound[1])
    install(authority.issue("mended"), files)
    server.process.send_signal(signal.SIGHUP)
    until_blocking(lambda: secure(server, context, "GET", "/v2")[2] == "mended")


def complained(server: Running, times: int) -> bool:
    return server.log.read_text().count("the old certificate holds") == times


def test_the_commands_reach_it_with_the_authority_in_a_file(
    server: Running, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_bytes(HALF)
    at = ("--url", f"https://127.0.0.1:{server.port}")
    known = (*at, "--ca-file", str(authority.ca))
    assert json.loads(edge("predict", "half", str(tmp_path / "request.json"), *known).stdout) == HALVED
    assert "READY" in edge("models", "ls", *known).stdout
    stranger = edge("models", "ls", *at)
    assert stranger.returncode == 4
    assert "its certificate is not trusted" in stranger.stderr


def edge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_who_speaks_no_tls_or_stops_in_its_midst_costs_nobody_else_anything(
    server: Running, authority: Authority
) -> None:
    context = trusting(authority)
    silent = [connect(server.port) for _ in range(20)]
    for each in silent[:10]:
        each.sendall(b"\x16\x03\x01\x02")  # the first bytes of a handshake
    with Wire(server.port) as plain:
        plain.send(request("GET", "/v2"))
        with contextlib.suppress(ConnectionError):
            assert not plain.rest().startswith(b"HTTP/1.1 200")
    assert secure(server, context, "POST", PREDICT, HALF)[0] == 200
    for each in silent:
        each.close()


def test_a_key_that_does_not_fit_is_told_before_anything_starts(authority: Authority, tmp_path: Path) -> None:
    cert, _ = authority.issue("one")
    _, key = authority.issue("two")
    ended = edge(
        "serve",
        str(half(tmp_path)),
        "--port",
        "0",
        "--tls-cert",
        str(cert),
        "--tls-key",
        str(key),
        "--state-dir",
        str(tmp_path / "state"),
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "cannot start" in ended.stderr
