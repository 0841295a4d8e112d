"""Reports by HTTP POST.

Rule: what the collector says of the report is for ever, and what it says of who brings it, where to, or when, passes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from sync.domain.errors import Refused, Rejected, Unreachable

TIMEOUT_S = 30.0
MAX_WHY_BYTES = 500
"""Of an answer's body, for the log."""
MAX_RETRY_AFTER_S = 6 * 3600.0
PASSES = frozenset({401, 403, 404, 405, 407, 408, 410, 421, 423, 425, 426, 429, 451})
"""Statuses from 400 to 499 that say nothing of the report. 404, 405 and 410 are of an address that is wrong for every one."""


class HttpDelivery:
    """token_file: holds a bearer token to show; "" for none."""

    def __init__(self, url: str, token_file: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._token_file = url, token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def deliver(self, report: bytes) -> None:
        """Raises Unreachable, Refused, Rejected."""
        headers = {"Content-Type": "application/json"}
        try:
            if self._token_file:
                token = await asyncio.to_thread(Path(self._token_file).read_text)
                headers["Authorization"] = f"Bearer {token.strip()}"
            async with (
                aiohttp.ClientSession(timeout=self._timeout, trust_env=True) as session,
                session.post(self._url, data=report, headers=headers, allow_redirects=False) as answer,
            ):
                await self._check(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # also a token that is no header
            raise Unreachable(f"{self._url}: {error or type(error).__name__}") from None

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status // 100 == 2:
            return
        text = f"{self._url}: want 2xx, got {answer.status}"
        if answer.status // 100 == 4 and answer.status not in PASSES:
            why = (await answer.content.read(MAX_WHY_BYTES)).decode(errors="replace").strip()
            raise Rejected(f"{text}: {why!r}" if why else text)
        after = answer.headers.get("Retry-After", "")
        wait_s = float(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0.0
        raise Refused(text, retry_after_s=min(wait_s, MAX_RETRY_AFTER_S))
