"""What a connection tells whoever opened it: what came, what the broker says, and why there is none any more."""

from __future__ import annotations

from typing import Protocol

from edge.mqtt.message import Message

_OLD_PROTOCOL = "Unsupported protocol version"


class Refused(Exception):
    """The broker does not want the connection. `protocol`: because it does not speak this version of MQTT."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the broker refuses the connection: {why}")
        self.protocol = why == _OLD_PROTOCOL


class Lost(Exception):
    """The connection has ended. `taken_over`: because another client came with the same client id, as the broker says.
    `silent`: the broker has closed it and has not said why."""

    def __init__(self, why: str, *, taken_over: bool = False, silent: bool = False) -> None:
        super().__init__(why)
        self.taken_over, self.silent = taken_over, silent


class Events(Protocol):
    """What a connection tells; called on the loop, and may not raise."""

    def came(self, message: Message, mid: int) -> None: ...
    def delivered(self, mid: int, refused: str) -> None:
        """The broker has taken a publication of QoS 1; `refused` says why it did nothing with it, if it did nothing."""
        ...

    def subscribed(self, mid: int, refused: list[str]) -> None: ...
    def unsubscribed(self, mid: int) -> None: ...
    def writable(self) -> None:
        """All that was handed over is on its way."""
        ...
