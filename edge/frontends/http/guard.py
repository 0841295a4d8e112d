"""Who may ask.

Rule 1: on a loopback address, a Host that is a name other than ours is refused: a page in a browser reaches the
server by DNS rebinding only under a name of its own. Rule 2: without the CORS switch, no page of another origin may
cause work. Rule 3: tokens are compared in constant time, and come from a file that may change.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.domain.errors import Forbidden, Unauthenticated
from edge.files import open_regular
from edge.frontends.http.message import Request

log = logging.getLogger(__name__)

MAX_TOKEN_FILE_BYTES = 1 << 20
OPEN_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


@dataclass(frozen=True, slots=True)
class Policy:
    """`check_host`: the server listens on loopback, or `allowed_hosts` was set. `cors`: pages of any origin may ask."""

    check_host: bool = True
    allowed_hosts: Sequence[str] = ()
    cors: bool = False


class Guard:
    """`tokens`: what `Authorization: Bearer` may carry; None asks for no token."""

    def __init__(self, policy: Policy, tokens: Sequence[bytes] | None = None) -> None:
        self._policy = policy
        self._names = LOCAL_NAMES | {name.lower() for name in policy.allowed_hosts}
        self._hosts_seen: dict[bytes, bool] = {}
        self.tokens = tokens

    def refusal(self, request: Request, *, local: bool) -> Forbidden | Unauthenticated | None:
        """Why a request may not pass, or None. `local`: it came over a Unix socket."""
        if self._policy.check_host and not local:
            host = request.headers.get(b"host", b"")
            if not self._host_is_ours(host):
                return Forbidden(
                    f"host {host.decode('latin-1')[:200]!r} is not one of this server's names (allowed_hosts)"
                )
        origin = request.headers.get(b"origin")
        if origin is not None and not self._policy.cors and not self._same_origin(origin, request):
            return Forbidden(f"a page of {origin.decode('latin-1')[:200]!r} may not ask here (cors is off)")
        if self.tokens is not None and request.path not in OPEN_PATHS:
            return self.without_token(request.headers.get(b"authorization", b""))
        return None

    def _host_is_ours(self, host: bytes) -> bool:
        known = self._hosts_seen.get(host)
        if known is None:
            known = _is_ours(host, self._names)
            if len(self._hosts_seen) < 64:
                self._hosts_seen[host] = known
        return known

    def _same_origin(self, origin: bytes, request: Request) -> bool:
        if request.method == "OPTIONS":
            return True  # a preflight causes no work, and its answer allows nothing unless cors is on
        return origin.partition(b"://")[2].lower() == request.headers.get(b"host", b"").lower()

    def without_token(self, authorization: bytes) -> Unauthenticated | None:
        """What is wrong with a header of that value, or None; where no tokens are asked for, nothing is."""
        if self.tokens is None:
            return None
        scheme, _, given = authorization.partition(b" ")
        given = given.strip()
        matches = [hmac.compare_digest(given, token) for token in self.tokens]
        if scheme.lower() == b"bearer" and any(matches):
            return None
        came = "another token" if given else "none"
        return Unauthenticated(f"want a bearer token in the Authorization header, got {came}")


def _is_ours(host: bytes, names: frozenset[str]) -> bool:
    """A missing Host (HTTP/1.0) and addresses pass: only a name can be bound to another address."""
    text = host.decode("latin-1").strip().lower()
    name, _, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
    if port and not port.isdigit():
        return False
    if not name or name in names or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def read_tokens(path: Path) -> list[bytes]:
    """One token a line; blank lines and `#` comments are skipped. Blocks. Raises OSError, ValueError."""
    with open_regular(path) as file:
        data = file.read(MAX_TOKEN_FILE_BYTES + 1)
    if len(data) > MAX_TOKEN_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_TOKEN_FILE_BYTES} bytes")
    tokens = [line.strip() for line in data.splitlines() if line.strip() and not line.startswith(b"#")]
    if not tokens:
        raise ValueError(f"{path}: want at least one token, got none")
    return tokens
