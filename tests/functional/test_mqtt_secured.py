"""The link on a real broker that does not let everybody do everything."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from paho.mqtt.client import Client

from tests.functional.asked import Asker, on_broker, until_ready
from tests.functional.broker import running_broker
from tests.functional.linked import IN_TIME_S, VERSIONS, in_thread, packet, running, scripted, settings
from tests.functional.zoo import half
from tests.waiting import until


async def test_what_is_larger_than_the_broker_takes_is_dropped_and_ends_no_connection(
    mosquitto: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_broker(mosquitto, tmp_path / "b", more="max_packet_size 2000") as broker:
        async with running(settings(broker.port)) as subject:
            subject.link.publish("out", bytes(3000), qos=1)
            subject.link.publish("out", bytes(1000), qos=1)
            assert await subject.link.flush(IN_TIME_S)
            assert subject.connections == 1
            assert subject.link.dropped == 1
    assert "the broker takes 2000" in caplog.text


async def test_a_publication_that_the_broker_refuses_is_logged_and_not_sent_for_ever(
    mosquitto: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite out\n")
    with running_broker(mosquitto, tmp_path / "b", more=f"acl_file {acl}") as broker:
        async with running(settings(broker.port)) as subject:
            subject.link.publish("secret", b"", qos=1)
            await until(lambda: "published to secret: Not authorized" in caplog.text)
            assert not subject.link.waiting


def test_a_server_reaches_a_broker_that_asks_for_its_name_and_speaks_tls(
    mosquitto: str, openssl: str, tmp_path: Path
) -> None:
    certificate, key = certificates(openssl, tmp_path)
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "me", "opensesame"], check=True, capture_output=True)
    secret.write_text("opensesame\n")
    more = f"allow_anonymous false\npassword_file {passwords}\ncertfile {certificate}\nkeyfile {key}"

    def as_me(client: Client) -> None:
        client.username_pw_set("me", "opensesame")
        client.tls_set(str(certificate))

    with (
        running_broker(mosquitto, tmp_path / "b", more=more) as broker,
        on_broker(
            tmp_path / "s",
            broker,
            half(tmp_path),
            **{"username": "me", "password_file": str(secret), "tls": "true", "ca_file": str(certificate)},
        ) as server,
        broker.peer(set_up=as_me) as peer,
    ):
        until_ready(peer, "half")
        asker = Asker(peer, server=server)
        large = b'{"instances": [' + b"1.0," * 200_000 + b"1.0]}"
        sent = [asker.send("half", large) for _ in range(4)]
        assert {asker.answer().correlation for _ in sent} == set(sent)
        assert asker.ask("half", b'{"instances": [1.0]}').json == {"predictions": [0.5]}


async def test_names_and_passwords_come_from_files_that_are_read_anew(
    mosquitto: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    await in_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", passwords, "me", "opensesame"], check=True, capture_output=True
    )
    secret.write_text("wrong\n")
    more = f"allow_anonymous false\npassword_file {passwords}"
    with running_broker(mosquitto, tmp_path / "b", more=more) as broker:
        wanted = settings(broker.port, username="me", password_file=secret)
        async with running(wanted, connected=False) as subject:
            await until(lambda: "refuses the connection: Not authorized" in caplog.text)
            secret.write_text("opensesame\n")
            await until(lambda: subject.link.connected)
    assert "opensesame" not in caplog.text


def certificates(openssl: str, directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.parametrize("version", VERSIONS)
async def test_tls_brings_all_that_was_decrypted_at_once(
    mosquitto: str, openssl: str, tmp_path: Path, version: str
) -> None:
    certificate, key = certificates(openssl, tmp_path)
    more = f"certfile {certificate}\nkeyfile {key}\nrequire_certificate true\ncafile {certificate}"
    with running_broker(mosquitto, tmp_path / "b", more=more) as broker:
        wanted = settings(broker.port, version, tls=True, ca_file=certificate, cert_file=certificate, key_file=key)
        async with running(wanted) as subject:
            subject.link.subscribe("in", 0)
            for number in range(300):
                subject.link.publish("in", str(number), qos=1)
            subject.link.publish("in", bytes(1_000_000), qos=1)
            came = [(await subject.message()).payload for _ in range(301)]
            assert came == [*(str(number).encode() for number in range(300)), bytes(1_000_000)]


async def test_packets_that_come_in_one_record_of_tls_are_all_read_at_once(openssl: str, tmp_path: Path) -> None:
    """No one says that they are there: the socket itself has nothing more."""
    certificate, key = certificates(openssl, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\x01a\x00b" * 200)
        await reader.read()

    async with scripted(at_once, context) as port, running(settings(port, tls=True, ca_file=certificate)) as subject:
        async with asyncio.timeout(IN_TIME_S):
            for _ in range(200):
                assert (await subject.messages.get()).payload == b"b"


async def test_a_broker_with_a_certificate_of_nobody_is_not_spoken_to(
    mosquitto: str, openssl: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = certificates(openssl, tmp_path)
    with running_broker(mosquitto, tmp_path / "b", more=f"certfile {certificate}\nkeyfile {key}") as broker:
        async with running(settings(broker.port, tls=True), connected=False) as subject:
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
            assert not subject.link.connected
