"""Whether the server's ports, for HTTP and for gRPC, are free, or held by the server itself.

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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.config import Config, Http
from edge.config.sections import Grpc
from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.machine import Machine

ADMIN_WITHIN_S = 5.0
MAX_STATUS_BYTES = 16 << 20
PACKAGES = {"grpcio": "grpc", "protobuf": "google.protobuf"}
"""What gRPC needs, and by which module it is found."""
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


def check_ports(machine: Machine, config: Config) -> list[Finding]:
    running = ask_admin(config.admin.uds)
    return [check_port(machine, config.http, running), check_grpc(machine, config.grpc, running)]


def check_port(machine: Machine, config: Http, running: Running | None) -> Finding:
    """`running`: who answers at the admin socket."""
    if config.host is None:
        return ok("port", f"no TCP port is wanted; http.uds is {config.uds}")
    return _check(machine, _Wanted("port", "http", config.host, config.port), running)


def check_grpc(machine: Machine, config: Grpc, running: Running | None) -> Finding:
    """`running`: who answers at the admin socket."""
    if not config.wanted:
        return ok("grpc", "grpc.host and grpc.uds are empty: there is no gRPC")
    absent = [package for package, module in PACKAGES.items() if not _installed(module)]
    if absent:
        return fail("grpc", f"not installed: {', '.join(absent)}", "pip install '.[grpc]' in the directory of edge")
    if config.host is None:
        return ok("grpc", f"no TCP port is wanted; grpc.uds is {config.uds}")
    return _check(machine, _Wanted("grpc", "grpc", config.host, config.port), running)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Where to listen; `check` is the finding's name, `section` the configuration's."""

    check: str
    section: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _check(machine: Machine, wanted: _Wanted, running: Running | None) -> Finding:
    if not wanted.port:
        return ok(wanted.check, f"{wanted.host}: any free port is taken")
    try:
        _bind(wanted.host, wanted.port)
    except OSError as error:
        return _taken(machine, wanted, running, error)
    if running is not None:
        text = f"{wanted} is free, and a server (edge {running.version}) runs: it listens elsewhere"
        return warn(wanted.check, text, "see whether it was started with another --port or another file")
    return ok(wanted.check, f"{wanted} is free")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _bind(host: str, port: int) -> None:
    """Raises OSError, socket.gaierror too."""
    family, kind, number, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, number) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)


def _taken(machine: Machine, where: _Wanted, running: Running | None, error: OSError) -> Finding:
    check, key = where.check, where.section
    if isinstance(error, socket.gaierror):
        return fail(check, f"{where}: no such address: {error.strerror}", f"set {key}.host to one of this device")
    if error.errno == errno.EADDRNOTAVAIL:
        return fail(check, f"{where}: no address of this device", f"set {key}.host to one that `ip address` lists")
    if error.errno == errno.EACCES:
        return fail(check, f"{where}: only root may listen there", f"set {key}.port to 1024 or more")
    if error.errno != errno.EADDRINUSE:
        return fail(check, f"{where}: {error.strerror}")
    who = holders(machine, where.port)
    if running is not None and running.pid in who:
        return ok(check, f"{where} is held by the server that runs: edge {running.version}, process {running.pid}")
    if who:
        names = ", ".join(f"{machine.text('proc', str(pid), 'comm') or '?'} (process {pid})" for pid in sorted(who))
        if running is None and all("edge" in _arguments(machine, pid) for pid in who):
            text = f"{where} is held by {names}, an edge server whose admin socket is not the configured one"
            return warn(check, text, "see admin.uds, or end it")
        return fail(check, f"{where} is held by {names}", f"end it, or set another {key}.port")
    if running is not None:
        text = f"{where} is held, and edge {running.version} runs (process {running.pid}); whose it is cannot be seen"
        return ok(check, text)
    return fail(check, f"{where} is in use, by a process that cannot be seen", "run this as root to see which")


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
