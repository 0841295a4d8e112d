"""paho's client on its socket: what is read is checked first, and system calls are few.

Each system call lets go of the interpreter's lock, for which the threads of the models wait. Rule 1: the socket is read ahead,
READ_BYTES at a time, where paho asks for a packet's first bytes one by one. Rule 2: packets that are written in one turn go
together, up to WRITE_BYTES. Rule 3: an acknowledgement that says no more than that is not unpacked. Rule 4: one packet is read
at a time, and every message goes to `took`, in the place of `on_message`.
Imported when a broker is to be reached: a server without one pays nothing for paho. This stands on paho's inner names: its version is pinned, and the tests of the link hold each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.message import Message
from edge.mqtt.packets import MARGIN_BYTES, check_packet
from edge.mqtt.publications import read_publish

READ_BYTES = 65536
WRITE_BYTES = 65536
_DISCONNECT = 0xE0
_BARE_ACK_BYTES = 2
"""A packet identifier, and nothing else: taken."""
_TAKEN: Any = ReasonCode(PacketTypes.PUBACK), Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]

Took = Callable[[Message, int], None]
"""Is given a message and its packet identifier, which is 0 with QoS 0."""


class StreamClient(Client):
    """`more`: whether there is something to read, for all that is known without asking the socket."""

    _greeted = False
    _ahead, _at = b"", 0
    _brimful = False

    def __init__(self, took: Took, max_packet_bytes: int, **options: Any) -> None:
        """`options` are paho's."""
        self._took, self._max_packet_bytes = took, max_packet_bytes
        self._behind = bytearray()
        super().__init__(CallbackAPIVersion.VERSION2, **options)

    @property
    def more(self) -> bool:
        return self._at < len(self._ahead) or self._brimful

    def want_write(self) -> bool:
        return bool(self._behind) or super().want_write()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        if self._sock is None:
            return MQTT_ERR_NO_CONN
        rc = self._packet_read()
        return self._loop_rc_handle(rc) if rc > 0 else MQTT_ERR_SUCCESS

    def _sock_recv(self, bufsize: int) -> bytes:
        packet = self._in_packet
        if packet["have_remaining"]:
            self._check()
            if self._protocol != MQTTv5:
                del packet["packet"][self._max_packet_bytes + MARGIN_BYTES :]
                bufsize = min(bufsize, self._max_packet_bytes)
        if self._at == len(self._ahead):
            self._ahead, self._at, self._brimful = b"", 0, False
            self._ahead = super()._sock_recv(READ_BYTES)
            self._brimful = len(self._ahead) == READ_BYTES
        found = self._ahead[self._at : self._at + bufsize]
        self._at += len(found)
        return found

    def _packet_write(self) -> MQTTErrorCode:
        rc = super()._packet_write()
        if rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN) or self._sock is None:
            return rc
        try:
            self._flush()
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return rc

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if len(self._behind) + len(buf) > WRITE_BYTES or buf[0] == _DISCONNECT:
            self._flush()
            return super()._sock_send(buf)
        self._behind += buf
        return len(buf)

    def _flush(self) -> None:
        """Raises BlockingIOError where not all of it can go now, OSError."""
        while self._behind:
            del self._behind[: super()._sock_send(self._behind)]

    def _packet_handle(self) -> MQTTErrorCode:
        self._check()
        self._greeted = True
        return super()._packet_handle()

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        message, mid = read_publish(packet["command"], bytes(packet["packet"]), five=self._protocol == MQTTv5)
        self._took(message, mid)
        return MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if len(packet) != _BARE_ACK_BYTES:
            return super()._handle_pubackcomp(cmd)
        mid = int.from_bytes(packet, "big")
        with self._out_message_mutex:
            return self._do_on_publish(mid, *_TAKEN) if mid in self._out_messages else MQTT_ERR_SUCCESS

    def _check(self) -> None:
        packet = self._in_packet
        most = self._max_packet_bytes if self._protocol == MQTTv5 else packet["remaining_length"]
        check_packet(packet["command"], packet["remaining_length"], greeted=self._greeted, most=most)
