"""What of [grpc] cannot be, and what is probably not meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config.resolve import _contradictions, _doubts, missing_files
from edge.config.sections import Admin, Config, Grpc, Http, Server

CERT = Path("/nowhere/cert.pem")


def config(grpc: Grpc, http: Http | None = None) -> Config:
    return Config(server=Server(state_dir=Path("/s")), admin=Admin(uds=Path("/a")), http=http or Http(), grpc=grpc)


@pytest.mark.parametrize(
    ("grpc", "said"),
    [
        (Grpc(tls_cert=CERT), "grpc.tls_cert, grpc.tls_key: want both or neither, got one"),
        (Grpc(client_ca=CERT), "grpc.client_ca: want a grpc.tls_cert with it, got none"),
        (Grpc(uds=Path("/a")), "grpc.uds, admin.uds: want two sockets, got /a for both"),
        (
            Grpc(host="::1", max_message_bytes=2**30),
            "grpc.max_message_bytes: want at most server.max_inflight_body_bytes (268435456), got 1073741824",
        ),
    ],
)
def test_what_cannot_be_is_told(grpc: Grpc, said: str) -> None:
    assert _contradictions(config(grpc)) == [said]


def test_a_port_for_others_without_a_token_or_without_tls_is_doubted() -> None:
    open_to_all = Grpc(host="0.0.0.0")
    assert _doubts(config(open_to_all)) == [
        "grpc.host 0.0.0.0 can be reached from other machines and there is no http.token_file"
    ]
    tokens = Http(token_file=Path("/tokens"))
    assert _doubts(config(open_to_all, tokens)) == [
        "grpc.host 0.0.0.0 can be reached from other machines without TLS: the token can be read"
    ]
    assert _doubts(config(Grpc(host="127.0.0.1"))) == []


def test_a_certificate_that_is_not_there_is_told_before_the_start() -> None:
    assert missing_files(config(Grpc(tls_cert=CERT, tls_key=CERT))) == [
        f"grpc.tls_cert: want a file, got {CERT}",
        f"grpc.tls_key: want a file, got {CERT}",
    ]
