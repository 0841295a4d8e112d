"""The page for people: one file, no outside assets, since a device may have no Internet.

Rule 1: the page runs only what is in the file: its script and its style are allowed by their hash, nothing else is.
Rule 2: names and reasons that it shows are strangers' text; Trusted Types hold it to that in browsers that have them.

Sources: https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path


def load_page() -> tuple[bytes, Mapping[str, str]]:
    """The page's bytes, and the headers to send it with. Reads one file: call it once, at start-up."""
    html = Path(__file__).with_name("index.html").read_bytes()
    return html, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(html),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _policy(html: bytes) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(html, 'script')}",
            f"style-src {_hash(html, 'style')}",
            "img-src blob: data:",  # the preview of a picture, and the icon
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(html: bytes, element: str) -> str:
    """The one inline element of that name, as a source expression. Raises ValueError where there is not just one."""
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>".encode(), html, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content).digest()).decode()}'"
