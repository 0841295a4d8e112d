"""Whether this device can be seen by multicast DNS: an interface that carries it, and a socket that hears it.

Rule: nothing is sent; the group is joined for a moment.
"""

from __future__ import annotations

import errno
import socket

from edge.doctor.finding import Finding, ok, warn
from edge.doctor.machine import Machine
from edge.domain.interfaces import is_of_containers

GROUP, PORT = "224.0.0.251", 5353
UP, LOOPBACK, MULTICAST = 0x1, 0x8, 0x1000  # net_device_flags of linux/if.h


def check_mdns(machine: Machine) -> Finding:
    names = interfaces(machine)
    if not names:
        return warn(
            "mdns", "no interface is up that carries multicast: the server cannot be discovered", "see `ip link`"
        )
    if all(ends_on_this_host(machine, name) for name in names):
        text = f"{', '.join(names)}: one end of a pair of a container: multicast does not leave the host"
        return warn(
            "mdns",
            text,
            "give the container the host's network: --network host, or macvlan; or tell clients the address",
        )
    try:
        _listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return warn(
                "mdns", f"port {PORT} is held by a program that does not share it", f"see `ss -lup sport = :{PORT}`"
            )
        return warn(
            "mdns", f"the group {GROUP} cannot be joined: {error.strerror}", "see `ip maddress` and the firewall"
        )
    return ok("mdns", f"multicast can be heard on {', '.join(names)}")


def interfaces(machine: Machine) -> list[str]:
    """Those that are up and carry multicast to other machines."""
    found = []
    for name in machine.names("sys/class/net"):
        text = machine.text("sys/class/net", name, "flags") or "0x0"
        flags = int(text, 16) if text.startswith("0x") else 0
        if flags & UP and flags & MULTICAST and not flags & LOOPBACK and not is_of_containers(name):
            found.append(name)
    return found


def ends_on_this_host(machine: Machine, name: str) -> bool:
    """Whether it is a veth, as containers on a bridge have it: another link is its other end, and no type is said."""
    place = f"sys/class/net/{name}"
    index, link = machine.text(place, "ifindex"), machine.text(place, "iflink")
    return index is not None and index != link and "DEVTYPE=" not in (machine.text(place, "uevent") or "")


def _listen() -> None:
    """Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        heard.bind(("", PORT))
        group = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
        heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
