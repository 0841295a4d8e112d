"""Which version of MQTT a connection speaks: what the settings say, or what the broker can."""

from __future__ import annotations

from collections.abc import Callable

from edge.mqtt.connection import Connection
from edge.mqtt.events import Lost, Refused
from edge.mqtt.grant import Grant
from edge.mqtt.settings import Protocol


async def open_connection(protocol: Protocol, made: Callable[[str], Connection]) -> tuple[Connection, Grant]:
    """`made` makes a connection of a version, for each try another one. Raises what Connection.open does."""
    if protocol != "auto":
        return await _opened(made(protocol))
    try:
        return await _opened(made("5"))
    except Refused as refused:
        if not refused.protocol:
            raise
    return await _opened(made("3.1.1"))


async def _opened(connection: Connection) -> tuple[Connection, Grant]:
    try:
        return connection, await connection.open()
    except BaseException:
        connection.end(Lost("not opened"))
        raise
