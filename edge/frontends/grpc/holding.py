"""A port that is taken, and refuses connections: gRPC listens where it binds, and clients take an open port for a server.

Rule: gRPC binds beside it, and then it is closed; at no time could somebody else have it.
"""

from __future__ import annotations

import contextlib
import socket


def hold_port(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Bound sockets that do not listen, at each address of the host that can be had, and their port; port 0 picks a free
    one. Blocks. Raises OSError."""
    held: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        refusal: OSError | None = None
        for family, kind, number, _, address in socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            made = undo.enter_context(socket.socket(family, kind, number))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: or it could not bind beside
            try:
                made.bind((address[0], port, *address[2:]))
            except OSError as error:
                refusal = error
                continue
            port = made.getsockname()[1]
            held.append(made)
        if not held:
            raise refusal or OSError(f"{host}: no such address")
        undo.pop_all()
    return held, port
