"""One Unix socket between the server and a worker: whole messages, and open files beside them.

Rule 1: one thread at a time hears on each side, and one says. Rule 2: nobody waits longer than was said. Rule 3: what is too long, or comes with
more files than MAX_FILES, is Garbage.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Sequence
from time import monotonic

from edge.backends.worker.messages import LENGTH_BYTES, MAX_MESSAGE_BYTES, Garbage, Message, decode, encode

MAX_FILES = 4
CHUNK_BYTES = 64 * 1024
SAY_WITHIN_S = 10
"""A side that does not read for so long has gone."""


class Line:
    """`files` holds what came with messages, until somebody takes it; whoever takes it closes it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SAY_WITHIN_S, 0))
        self._socket = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)
        self._came = bytearray()
        self.files: list[int] = []

    def say(self, message: Message, files: Sequence[int] = ()) -> None:
        """Raises Garbage for a message that is too long, OSError where nobody listens any more, or nobody reads."""
        data = memoryview(encode(message))
        sent = socket.send_fds(self._socket, [data], list(files)) if files else self._socket.send(data)
        if sent < len(data):
            self._socket.sendall(data[sent:])

    def hear(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises EOFError where the other side has gone, OSError, TimeoutError, Garbage."""
        end = None if timeout_s is None else monotonic() + timeout_s
        came = self._came
        while True:
            if len(came) >= LENGTH_BYTES:
                length = int.from_bytes(came[:LENGTH_BYTES], "little")
                if length > MAX_MESSAGE_BYTES:
                    raise Garbage(f"want a message of at most {MAX_MESSAGE_BYTES} bytes, got {length}")
                if len(came) >= LENGTH_BYTES + length:
                    data = bytes(came[LENGTH_BYTES : LENGTH_BYTES + length])
                    del came[: LENGTH_BYTES + length]
                    return decode(data)
            self._read(end)

    def _read(self, end: float | None) -> None:
        left_ms = None if end is None else max(0.0, end - monotonic()) * 1e3
        if not self._readable.poll(left_ms):
            raise TimeoutError("nothing came")
        data, files, _, _ = socket.recv_fds(self._socket, CHUNK_BYTES, MAX_FILES, socket.MSG_DONTWAIT)
        self.files += files
        if len(self.files) > MAX_FILES:
            raise Garbage(f"want at most {MAX_FILES} files with a message")
        if not data:
            raise EOFError("the other side has gone")
        self._came += data

    def take_file(self) -> int:
        """The first file that came. Raises Garbage where none did."""
        if not self.files:
            raise Garbage("want a file with the message")
        return self.files.pop(0)

    def close(self) -> None:
        self._socket.close()
        while self.files:
            os.close(self.files.pop())


def pair() -> tuple[Line, socket.socket]:
    """This side's line, and the socket for the other side."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Line(ours), theirs
