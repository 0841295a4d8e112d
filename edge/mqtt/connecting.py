"""From settings to a socket: what blocks, in a thread of its own.

Rule 1: names are resolved, files read, TCP and TLS set up in a daemon that nobody waits for longer than `connect_s`: a name
server that never answers keeps no process from its end. Rule 2: files are read anew for each connection, so that a renewed
password or certificate needs no restart. Rule 3: TCP_NODELAY always: without it an answer of QoS 1 waits 40 ms for the
acknowledgement of what went before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.mqtt.settings import LinkSettings

if TYPE_CHECKING:
    from paho.mqtt.client import Client

    from edge.mqtt.stream import StreamClient, Took

MAX_PASSWORD_BYTES = 65535


def make_client(settings: LinkSettings, version: str, took: Took) -> StreamClient:
    """`took` is given each message. Raises OSError, ssl.SSLError, ValueError."""
    from paho.mqtt.client import MQTTv5, MQTTv311

    from edge.mqtt.stream import StreamClient

    five = version == "5"
    client = StreamClient(
        took,
        settings.max_packet_bytes,
        client_id=settings.client_id,
        clean_session=None if five else True,
        protocol=MQTTv5 if five else MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = settings.connect_s
    client.on_socket_open = _no_delay
    if settings.username or settings.password_file:
        client.username_pw_set(settings.username or None, _password(settings))
    if settings.tls:
        client.tls_set_context(_tls(settings))
    if settings.will is not None:
        delay = _properties("WILLMESSAGE", WillDelayInterval=settings.will.delay_s) if five else None
        client.will_set(settings.will.topic, settings.will.payload, 1, True, delay)
    return client


def connect(client: Client, settings: LinkSettings, version: str) -> Any:
    """The socket, on which CONNECT is still to be written. Raises OSError, ssl.SSLError, ValueError."""
    options: dict[str, Any] = {}
    if version == "5":
        options["clean_start"] = False
        options["properties"] = _properties(
            "CONNECT",
            SessionExpiryInterval=settings.session_expiry_s,
            ReceiveMaximum=settings.receive_maximum,
            MaximumPacketSize=settings.max_packet_bytes,
        )
    client.connect(settings.host, settings.port, settings.keepalive_s, **options)
    opened = client.socket()
    if opened is None:
        raise ConnectionError("the connection was closed as it opened")
    return opened


def _properties(packet: str, **values: int) -> Any:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    make: Any = Properties
    properties = make(getattr(PacketTypes, packet))
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _no_delay(_client: object, _data: object, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _password(settings: LinkSettings) -> str | None:
    """Raises OSError, ValueError."""
    if settings.password_file is None:
        return None
    with settings.password_file.open("rb") as file:
        secret = file.read(MAX_PASSWORD_BYTES + 1)
    if len(secret) > MAX_PASSWORD_BYTES:
        raise ValueError(f"{settings.password_file}: want a password of at most {MAX_PASSWORD_BYTES} bytes")
    return secret.decode().rstrip("\r\n")


def _tls(settings: LinkSettings) -> ssl.SSLContext:
    """Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Closing
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file, _no_passphrase)
    return context


def _no_passphrase() -> str:
    """In place of OpenSSL's question at the terminal, which each try would ask anew. Raises ValueError."""
    raise ValueError("want a private key without a passphrase")


class _Closing(ssl.SSLSocket):
    """One whose handshake fails is not left open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


Opened = tuple["StreamClient", Any]


async def in_thread(work: Callable[[], Opened]) -> Opened:
    """What `work` gives or raises. What comes when nobody waits any more is closed."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Opened] = loop.create_future()

    def settle(result: Opened | None, error: Exception | None) -> None:
        if done.done():
            _close(result)
        elif error is not None:
            done.set_exception(error)
        elif result is not None:
            done.set_result(result)

    def body() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:  # the loop has ended
            _close(result)

    threading.Thread(target=body, name="mqtt-connect", daemon=True).start()
    try:
        return await done
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:  # it came as nobody waited any more
            _close(done.result())
        raise


def _close(result: Opened | None) -> None:
    if result is not None:
        with contextlib.suppress(OSError):
            result[1].close()
