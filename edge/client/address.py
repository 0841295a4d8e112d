"""Where a server is: `http://HOST:PORT`, `https://HOST:PORT/PREFIX` or `unix:/PATH`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """`prefix` goes before every path, without a slash at its end; `uds`, where it is not empty, is a Unix socket."""

    url: str
    host: str
    port: int
    tls: bool
    prefix: str
    uds: str = ""

    @property
    def authority(self) -> str:
        """What the header Host says."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) or self.uds else f"{host}:{self.port}"


def parse(url: str) -> Address:
    """Raises ValueError that says what was wanted and what came."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix://") if url.startswith("unix:///") else url.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"want unix:/PATH, got {url!r}")
        return Address(url, "localhost", 80, False, "", path)
    wanted = f"want http://HOST:PORT, https://HOST:PORT or unix:/PATH, got {url[:200]!r}"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wanted) from None
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not host or not plain or not _is_plain(url):
        raise ValueError(wanted)
    tls = parts.scheme == "https"
    return Address(url, host, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url
