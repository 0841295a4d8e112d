"""Hosts on a network of their own: network namespaces, one wire between them, nothing beyond."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

TOOL_LIMIT_S = 10.0


@dataclass(frozen=True)
class Host:
    """`enter` goes before a command that is to run there; the process is replaced by the command."""

    namespace: str
    address: str
    enter: tuple[str, ...]


@contextmanager
def two_hosts(ip: str) -> Iterator[tuple[Host, Host]]:
    """Two hosts with one interface `lan0` each, beside the loopback. Skips by name where this user may not make them."""
    if os.geteuid() != 0:
        pytest.skip("not root: nothing was tested between two hosts")
    mark = secrets.token_hex(4)
    names = [f"edge-{mark}-{side}" for side in "ab"]
    hosts = [Host(name, f"192.0.2.{1 + at}", (ip, "netns", "exec", name)) for at, name in enumerate(names)]
    try:
        try:
            for name in names:
                _ip(ip, "netns", "add", name)
            _ip(ip, "-n", names[0], "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", names[1])
        except subprocess.SubprocessError as error:
            pytest.skip(f"no network namespaces: nothing was tested between two hosts ({_last_line(error)})")
        for host in hosts:
            inside = ("-n", host.namespace)
            _ip(ip, *inside, "address", "add", f"{host.address}/24", "dev", "lan0")
            for interface in ("lo", "lan0"):
                _ip(ip, *inside, "link", "set", interface, "up")
            _ip(ip, *inside, "route", "add", "224.0.0.0/4", "dev", "lan0")
        yield hosts[0], hosts[1]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "delete", name], check=False, capture_output=True, timeout=TOOL_LIMIT_S)


def _ip(ip: str, *arguments: str) -> None:
    subprocess.run([ip, *arguments], check=True, capture_output=True, timeout=TOOL_LIMIT_S)


def _last_line(error: subprocess.SubprocessError) -> str:
    said = getattr(error, "stderr", b"") or b""
    return said.decode(errors="replace").strip().rpartition("\n")[2] or str(error)
