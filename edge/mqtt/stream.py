"""paho's client on its socket: what is read is checked first, system calls are few, and messages do not go through paho.

Each system call lets go of the interpreter's lock, for which the threads of the models wait. Rule 1: the socket is read ahead,
READ_BYTES at a time, where paho asks for a packet's first bytes one by one. Rule 2: packets that are written in one turn go
together. Rule 3: messages and bare acknowledgements that are here whole are read here; all else, and what is longer, by paho.
Rule 4: messages and acks are packed here, and go before what paho itself has to say. Rule 5: one packet is read at a time; every
message goes to `took`, and what the broker says of one that was sent to `taken`: in the places of `on_message` and `on_publish`.
Imported when a broker is to be reached: a server without one pays nothing for paho. This stands on paho's inner names: its version is pinned, and the tests of the link hold each.
Source: MQTT Version 5.0, OASIS Standard, sections 2.1, 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal, NamedTuple

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.message import Message, variable_length
from edge.mqtt.packets import MARGIN_BYTES, check_packet
from edge.mqtt.publications import MAX_LENGTH_BYTES, read_publish
from edge.mqtt.settings import MAX_PACKET_BYTES

READ_BYTES = 65536
WRITE_BYTES = 65536
_PUBLISH, _PUBACK, _DISCONNECT = 0x30, 0x40, 0xE0
_BARE_ACK_BYTES = 2
"""A packet identifier, and nothing else: taken."""
_TAKEN = ReasonCode(PacketTypes.PUBACK)

Took = Callable[[Message, int], None]
"""Is given a message and its packet identifier, which is 0 with QoS 0."""


class _Frame(NamedTuple):
    """Of a packet: where what follows its length begins and ends in what was read ahead."""

    begin: int
    end: int


class StreamClient(Client):
    """`more`: whether there is something to read, for all that is known without asking the socket. `deaf`: nothing is read for
    now, nor what would say that the broker lives; that it takes what is written does."""

    _greeted = False
    _ahead, _at = b"", 0
    _brimful = False

    def __init__(self, took: Took, max_packet_bytes: int, **options: Any) -> None:
        """`options` are paho's."""
        self._took, self._max_packet_bytes = took, max_packet_bytes
        self.taken: Callable[[int, ReasonCode], None] = lambda mid, reason: None
        self.deaf = False
        self._behind = bytearray()
        self._under_way: set[int] = set()
        super().__init__(CallbackAPIVersion.VERSION2, **options)

    # Reading.

    @property
    def more(self) -> bool:
        frame = self._frame()
        return self._brimful or (frame is not None and frame.end <= len(self._ahead))

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        if self._sock is None:
            return MQTT_ERR_NO_CONN
        rc = self._packet_read()
        return self._loop_rc_handle(rc) if rc > 0 else MQTT_ERR_SUCCESS

    def _packet_read(self) -> MQTTErrorCode:
        """One packet, or more of it."""
        if self._in_packet["command"]:  # paho is in the midst of it
            return super()._packet_read()
        frame = self._frame()
        if frame is None or len(self._ahead) < frame.end <= self._at + READ_BYTES:
            rc = self._read_on()
            if rc != MQTT_ERR_SUCCESS:
                return rc
            frame = self._frame()
        if frame is None:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        if frame.end <= len(self._ahead):
            return self._take(frame)
        self._check(self._ahead[self._at], frame.end - frame.begin)
        return super()._packet_read() if frame.end > self._at + READ_BYTES else MQTTErrorCode.MQTT_ERR_AGAIN

    def _frame(self) -> _Frame | None:
        """The next packet's, None where too little of it is here to tell. One whose length has no end is longer than any."""
        length, at = 0, self._at + 1
        for number, byte in enumerate(self._ahead[at : at + MAX_LENGTH_BYTES]):
            length |= (byte & 0x7F) << 7 * number
            if byte < 0x80:
                begin = at + number + 1
                return _Frame(begin, begin + length)
        known = len(self._ahead) - at >= MAX_LENGTH_BYTES
        return _Frame(at, at + MAX_PACKET_BYTES) if known else None

    def _read_on(self) -> MQTTErrorCode:
        """What the socket has, behind what is left."""
        try:
            came = super()._sock_recv(READ_BYTES)
        except BlockingIOError:
            self._brimful = False
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        self._brimful = len(came) == READ_BYTES
        self._ahead, self._at = self._ahead[self._at :] + came, 0
        return MQTT_ERR_SUCCESS if came else MQTTErrorCode.MQTT_ERR_CONN_LOST

    def _take(self, frame: _Frame) -> MQTTErrorCode:
        """The next packet, which is here whole."""
        head, length = self._ahead[self._at], frame.end - frame.begin
        kind = head & 0xF0
        if kind != _PUBLISH and (kind != _PUBACK or length != _BARE_ACK_BYTES):
            return super()._packet_read()
        self._check(head, length)
        body = self._ahead[frame.begin : frame.end]
        self._at = frame.end
        self._last_bytes_received = monotonic()
        if kind == _PUBACK:
            self._acknowledged(int.from_bytes(body, "big"), _TAKEN)
        else:
            self._took(*read_publish(head, body, five=self._protocol == MQTTv5))
        return MQTT_ERR_SUCCESS

    def _sock_recv(self, bufsize: int) -> bytes:
        """For paho, of what was read ahead first."""
        packet = self._in_packet
        if packet["have_remaining"]:
            self._check(packet["command"], packet["remaining_length"])
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

    def _packet_handle(self) -> MQTTErrorCode:
        self._check(self._in_packet["command"], self._in_packet["remaining_length"])
        self._greeted = True
        return super()._packet_handle()

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        self._took(*read_publish(packet["command"], bytes(packet["packet"]), five=self._protocol == MQTTv5))
        return MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if self._protocol != MQTTv5 or len(packet) <= _BARE_ACK_BYTES:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        reason = ReasonCode(PacketTypes.PUBACK, identifier=packet[_BARE_ACK_BYTES])
        self._acknowledged(int.from_bytes(packet[:_BARE_ACK_BYTES], "big"), reason)
        return MQTT_ERR_SUCCESS

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        if mid in self._under_way:
            self._under_way.remove(mid)
            self.taken(mid, reason)

    def _check(self, head: int, length: int) -> None:
        most = self._max_packet_bytes if self._protocol == MQTTv5 else length
        check_packet(head, length, greeted=self._greeted, most=most)

    # Writing.

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: bytes) -> int:
        """Pack a message, for `loop_write` to send, and tell its packet identifier: 0 with QoS 0. `properties` as they stand in
        it, b"" in 3.1.1. Raises ValueError where it is longer than any may be."""
        mid = self._mid_generate() if qos else 0
        name = topic.encode()
        middle = mid.to_bytes(2, "big") + properties if qos else properties
        length = 2 + len(name) + len(middle) + len(payload)
        if length > MAX_PACKET_BYTES:
            raise ValueError(f"want a packet of at most {MAX_PACKET_BYTES} bytes, got {length}")
        head = bytes((_PUBLISH | qos << 1 | retain,)) + variable_length(length) + len(name).to_bytes(2, "big")
        self._behind += head + name + middle
        self._behind += payload
        if qos:
            self._under_way.add(mid)
        return mid

    def acknowledge(self, mid: int) -> None:
        """Pack the acknowledgement of a message of QoS 1."""
        self._behind += b"\x40\x02" + mid.to_bytes(2, "big")

    def _mid_generate(self) -> int:
        """For paho's subscriptions too: one that is under way is none that is free (section 2.2.1)."""
        mid = super()._mid_generate()
        while mid in self._under_way:
            mid = super()._mid_generate()
        return mid

    def want_write(self) -> bool:
        return bool(self._behind) or super().want_write()

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
        """paho's own packets, behind what was packed here."""
        if len(self._behind) + len(buf) > WRITE_BYTES or buf[0] == _DISCONNECT:
            self._flush()
            return super()._sock_send(buf)
        self._behind += buf
        return len(buf)

    def _flush(self) -> None:
        """Raises BlockingIOError where not all of it can go now, OSError."""
        while self._behind:
            del self._behind[: super()._sock_send(self._behind)]
            self._last_msg_out = monotonic()
            if self.deaf:
                self._last_bytes_received = self._last_msg_out
                self._ping_t = self._ping_t and self._last_msg_out
