"""Whether the server's port is free, or held by the server itself.

Rule 1: whose a port is, is asked of /proc first: a stranger who speaks HTTP could say that he is a server. Rule 2: a
port is tried by binding it for a moment, with the options that the server sets; nothing is accepted meanwhile.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config import Http
from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.machine import Machine

ADMIN_WITHIN_S = 5.0
MAX_STATUS_BYTES = 16 << 20
_PEER = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Running:
    """The server behind an admin socket. `pid` 0: not known."""

    pid: int
    version: str


def ask_admin(path: Path | None, within_s: float = ADMIN_WITHIN_S) -> Running | None:
    """The server that answers at the admin socket; None where none does."""
    if path is None:
        return None
    connection = http.client.HTTPConnection("localhost", timeout=within_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(within_s)
        connection.sock.connect(str(path))
        pid = _PEER.unpack(connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
        connection.request("GET", "/v1/status")
        status: Any = json.loads(connection.getresponse().read(MAX_STATUS_BYTES))
        return Running(pid, str(status["version"]))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return None
    finally:
        connection.close()


def check_port(machine: Machine, config: Http, running: Running | None) -> Finding:
    """`running`: who answers at the admin socket."""
    if config.host is None:
        return ok("port", f"no TCP port is wanted; http.uds is {config.uds}")
    where = f"{config.host}:{config.port}"
    try:
        if config.port:
            _bind(config.host, config.port)
    except OSError as error:
        return _taken(machine, config.port, where, running, error)
    if running is not None and config.port:
        text = f"{where} is free, and a server (edge {running.version}) runs: it listens elsewhere"
        return warn("port", text, "see whether it was started with another --port or another file")
    return ok("port", f"{where} is free" if config.port else f"{config.host}: any free port is taken")


def _bind(host: str, port: int) -> None:
    """Raises OSError, socket.gaierror too."""
    family, kind, number, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, number) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)


def _taken(machine: Machine, port: int, where: str, running: Running | None, error: OSError) -> Finding:
    if isinstance(error, socket.gaierror):
        return fail("port", f"{where}: no such address: {error.strerror}", "set http.host to an address of this device")
    if error.errno == errno.EADDRNOTAVAIL:
        return fail("port", f"{where}: this device has no such address", "set http.host to one that `ip address` lists")
    if error.errno == errno.EACCES:
        return fail("port", f"{where}: only root may listen there", "set http.port to 1024 or more")
    if error.errno != errno.EADDRINUSE:
        return fail("port", f"{where}: {error.strerror}")
    who = holders(machine, port)
    if running is not None and running.pid in who:
        return ok("port", f"{where} is held by the server that runs: edge {running.version}, process {running.pid}")
    if who:
        names = ", ".join(f"{machine.text('proc', str(pid), 'comm') or '?'} (process {pid})" for pid in sorted(who))
        if running is None and all("edge" in _arguments(machine, pid) for pid in who):
            text = f"{where} is held by {names}, an edge server whose admin socket is not the configured one"
            return warn("port", text, "see admin.uds, or end it")
        return fail("port", f"{where} is held by {names}", "end it, or set another http.port")
    if running is not None:
        text = f"{where} is held, and edge {running.version} runs (process {running.pid}); whose it is cannot be seen"
        return ok("port", text)
    return fail("port", f"{where} is in use, by a process that cannot be seen", "run this as root to see which")


def holders(machine: Machine, port: int) -> set[int]:
    """The processes that listen at a TCP port, of those that may be looked into."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in (machine.text("proc/net", table) or "").splitlines()[1:]:
            cells = line.split()
            if len(cells) > 9 and cells[3] == "0A" and int(cells[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{cells[9]}]")
    pids = (name for name in machine.names("proc") if name.isdecimal()) if inodes else ()
    return {int(pid) for pid in pids if inodes & _open(machine, pid)}


def _open(machine: Machine, pid: str) -> set[str]:
    found = set()
    for name in machine.names("proc", pid, "fd"):
        try:
            found.add(os.readlink(machine.path("proc", pid, "fd", name)))
        except OSError:
            continue
    return found


def _arguments(machine: Machine, pid: int) -> list[str]:
    return [Path(word).name for word in (machine.text("proc", str(pid), "cmdline") or "").split("\0")[:4]]
