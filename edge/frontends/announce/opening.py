"""Whether the local network is told of this server, and what. Imports nothing heavy where nobody is to be told."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge.config import Config
from edge.domain.ports import Catalog, Keepsakes

if TYPE_CHECKING:
    from edge.frontends.announce.announcer import Announcer


def announcer(config: Config, url: str, catalog: Catalog, keepsakes: Keepsakes) -> Announcer | None:
    """Who tells of the server at `url`, "" without a TCP port; None where nobody is to be told."""
    if not url:
        return None
    parts, settings = urlsplit(url), config.advertise
    if not settings.wanted(on_loopback=_on_loopback(parts.hostname or "")):
        return None
    from edge.frontends.announce.announcer import Announcement, Announcer
    from edge.telemetry.build import version

    said = Announcement(
        node=settings.node or config.mqtt.node,
        host=parts.hostname or "",
        port=parts.port or 0,
        release=version(),
        tls=parts.scheme == "https",
        auth="none" if config.http.token_file is None else "bearer",
        interfaces=settings.interfaces,
        addresses=settings.addresses,
        ipv6=settings.ipv6,
        http=settings.http,
        mqtt=config.mqtt.prefix if config.mqtt.host is not None else "",
    )
    return Announcer(said, catalog, keepsakes)


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
