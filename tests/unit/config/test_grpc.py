"""What of [grpc] cannot be, and what is probably not meant."""

from __future__ import annotations

from typing import Any

import pytest

from edge.config import ConfigError, missing_files, resolve

CERT = "/nowhere/cert.pem"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"grpc.tls_cert": CERT}, "grpc.tls_cert, grpc.tls_key: want both or neither, got one"),
        ({"grpc.client_ca": CERT}, "grpc.client_ca: want a grpc.tls_cert with it, got none"),
        ({"grpc.uds": "/a", "admin.uds": "/a"}, "grpc.uds, admin.uds: want two sockets, got /a for both"),
        ({"grpc.uds": "/b", "http.uds": "/b"}, "grpc.uds, http.uds: want two sockets, got /b for both"),
        (
            {"grpc.host": "::1", "grpc.max_message_bytes": 2**30},
            "grpc.max_message_bytes: want at most server.max_inflight_body_bytes (268435456), got 1073741824",
        ),
        ({"grpc.uds": "/" + "a" * 200}, "want a socket's path of at most 107 bytes"),
    ],
)
def test_what_cannot_be_is_told(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, {}, flags)
    (problem,) = caught.value.problems
    assert said in problem


def test_a_port_for_others_without_a_token_or_without_tls_is_doubted() -> None:
    def doubts(**more: str) -> list[str]:
        flags = {"grpc.host": "0.0.0.0"} | {key.replace("__", "."): value for key, value in more.items()}
        return list(resolve(None, {}, flags).warnings)

    assert doubts() == ["grpc.host 0.0.0.0 can be reached from other machines and there is no http.token_file"]
    assert doubts(http__token_file="/t") == [
        "grpc.host 0.0.0.0 can be reached from other machines without TLS: the token can be read"
    ]
    assert doubts(http__token_file="/t", grpc__tls_cert=CERT, grpc__tls_key=CERT) == []
    assert doubts(grpc__host="127.0.0.1") == []


def test_a_certificate_that_is_not_there_is_told_before_the_start() -> None:
    config = resolve(None, {}, {"grpc.tls_cert": CERT, "grpc.tls_key": CERT}).config
    assert missing_files(config) == [
        f"grpc.tls_cert: want a file, got {CERT}",
        f"grpc.tls_key: want a file, got {CERT}",
    ]
