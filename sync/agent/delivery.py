"""Reports by HTTP POST."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from sync.domain.errors import Refused, Unreachable

TIMEOUT_S = 30.0


class HttpDelivery:
    """token_file: holds a bearer token to show; "" for none."""

    def __init__(self, url: str, token_file: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._token_file = url, token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def deliver(self, report: bytes) -> None:
        """Raises Unreachable, Refused."""
        headers = {"Content-Type": "application/json"}
        try:
            if self._token_file:
                token = await asyncio.to_thread(Path(self._token_file).read_text)
                headers["Authorization"] = f"Bearer {token.strip()}"
            async with (
                aiohttp.ClientSession(timeout=self._timeout, trust_env=True) as session,
                session.post(self._url, data=report, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status // 100 != 2:
                    raise Refused(f"{self._url}: want 2xx, got {answer.status}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # also a token that is no header
            raise Unreachable(f"{self._url}: {error or type(error).__name__}") from None
