"""Packets as they come: which may, and how long they may be, before they are read.

paho frames packets and answers them, and would read whatever is sent, of any length: of properties that it unpacks itself,
in a time that grows with the square of their length. Rule 1: a CONNACK comes first, and once. Rule 2: only a PUBLISH may be
long; whatever else is, ends the connection before it is read. Rule 3: so does a PUBLISH that is longer than the broker was
told that it may be; one of 3.1.1, where that cannot be told, is cut off where it is too long for whoever reads it.
Rule 4: what belongs to QoS 2 ends the connection: nothing was subscribed or published with it.
Source: MQTT Version 5.0, OASIS Standard, section 2.1.
"""

from __future__ import annotations

from edge.mqtt.publications import Malformed

MAX_CONTROL_BYTES = 4096
"""Of a packet that is no PUBLISH. paho unpacks so many bytes of properties in a few milliseconds."""
MARGIN_BYTES = 65536
"""What is kept of a PUBLISH beyond the bound on packets, in 3.1.1: as much as a topic may take, so that what is left of the
payload is still too long for whoever has a bound."""

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
