"""Packets as they come: which may, and how long they may be, before they are read.

paho frames packets and answers them, and would read whatever is sent, of any length: of properties that it unpacks itself,
in a time that grows with the square of their length. Rule 1: a CONNACK comes first, and once. Rule 2: only a PUBLISH may be
long; whatever else is, ends the connection before it is read. Rule 3: so does a PUBLISH that is longer than the broker was
told that it may be; one of 3.1.1, where that cannot be told, is cut off where it is too long for whoever reads it.
Rule 4: what belongs to QoS 2 ends the connection: nothing was subscribed or published with it.
Source: MQTT Version 5.0, OASIS Standard, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.mqtt.message import Message
from edge.mqtt.publications import Malformed, read_publish

if TYPE_CHECKING:
    from paho.mqtt.client import Client

MAX_CONTROL_BYTES = 4096
"""Of a packet that is no PUBLISH. paho unpacks so many bytes of properties in a few milliseconds."""
MARGIN_BYTES = 65536
"""What is kept of a PUBLISH beyond the bound on packets, in 3.1.1: as much as a topic may take, so that what is left of the
payload is still too long for whoever has a bound."""

Took = Callable[[Message, int], None]
"""Is given a message and its packet identifier, which is 0 with QoS 0."""

_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _UNSUBACK, _PINGRESP, _DISCONNECT = 2, 3, 4, 9, 11, 13, 14
_FROM_BROKERS = frozenset((_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _UNSUBACK, _PINGRESP, _DISCONNECT))


def check_packet(head: int, length: int, *, greeted: bool, most: int) -> None:
    """Raises Malformed. `head` is the packet's first byte, `length` what follows its length, in bytes; `greeted`: there was
    a CONNACK; `most`: bytes that a PUBLISH may have."""
    kind = head >> 4
    if kind not in _FROM_BROKERS:
        raise Malformed(f"want a packet that brokers send to QoS 0 and 1, got type {kind}")
    if greeted == (kind == _CONNACK):
        raise Malformed(f"want one CONNACK, first of all; got type {kind} {'behind' if greeted else 'before'} it")
    if kind == _PUBLISH and (head >> 1 & 3) > 1:
        raise Malformed(f"want QoS 0 or 1, as was subscribed, got {head >> 1 & 3}")
    bound = most if kind == _PUBLISH else MAX_CONTROL_BYTES
    if length > bound:
        raise Malformed(f"want a packet of type {kind} of at most {bound} bytes, got {length}")


def client_class(took: Took, max_packet_bytes: int) -> type[Client]:
    """paho's Client, but that it checks packets before it reads them, reads one at a time, and that `took` is given every
    message, in the place of `on_message`."""
    from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTv5
    from paho.mqtt.enums import MQTTErrorCode

    class ReadingClient(Client):
        _greeted = False

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
                    del packet["packet"][max_packet_bytes + MARGIN_BYTES :]
                    bufsize = min(bufsize, max_packet_bytes)
            return super()._sock_recv(bufsize)

        def _packet_handle(self) -> MQTTErrorCode:
            self._check()
            self._greeted = True
            return super()._packet_handle()

        def _handle_publish(self) -> MQTTErrorCode:
            packet = self._in_packet
            message, mid = read_publish(packet["command"], bytes(packet["packet"]), five=self._protocol == MQTTv5)
            took(message, mid)
            return MQTT_ERR_SUCCESS

        def _check(self) -> None:
            packet = self._in_packet
            most = max_packet_bytes if self._protocol == MQTTv5 else packet["remaining_length"]
            check_packet(packet["command"], packet["remaining_length"], greeted=self._greeted, most=most)

    return ReadingClient
