"""The model server beside the agent, over its admin socket.

Rule: whatever goes wrong on the way is ServerAbsent; what the server says is believed no further than its bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec

from sync.domain.errors import ServerAbsent
from sync.domain.ports import ModelHealth, ServerHealth, VersionHealth

MAX_STATUS_BYTES = 64 << 20
TIMEOUT_S = 10.0
MAX_WORDS_CHARS = 2000
"""Of what it says of itself, and goes into the journal: the rest is cut."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Name = Annotated[str, msgspec.Meta(max_length=128)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Totals(msgspec.Struct):
    answered: _Count = 0
    failures: _Count = 0
    non_finite: _Count = 0


class _Window(msgspec.Struct):
    run_p99_s: _Seconds = 0.0


class _Version(msgspec.Struct):
    state: str
    reason: str = ""
    totals: _Totals = msgspec.field(default_factory=_Totals)
    window: _Window = msgspec.field(default_factory=_Window)


class _Model(msgspec.Struct):
    generation: int = 0
    problem: str = ""
    versions: Mapping[int, _Version] = {}


class _Status(msgspec.Struct):
    """`GET /v1/status`: what the agent reads of it."""

    boot_id: _Name
    version: _Name = ""
    last_exit: _Name = "unknown"
    models: Mapping[str, _Model] = {}


class AdminSocket:
    """`version`: of the server, as it said when it was asked last; "" while it does not answer.

    timeout_s: for one request and its answer.
    """

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout = path, aiohttp.ClientTimeout(total=timeout_s)
        self.version = ""

    async def health(self) -> ServerHealth:
        """Raises ServerAbsent."""
        try:
            health = _health(await self._ask("/v1/status"))
        except ServerAbsent:
            self.version = ""
            raise
        except (ValueError, RecursionError) as error:
            self.version = ""
            raise ServerAbsent(f"{self._path}: its status cannot be read: {error}") from None
        self.version = health.version
        return health

    async def _ask(self, target: str) -> bytes:
        connector = aiohttp.UnixConnector(path=str(self._path), force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
                session.get(f"http://localhost{target}", allow_redirects=False) as answer,
            ):
                body = await answer.content.read(MAX_STATUS_BYTES + 1)
                while not answer.content.at_eof() and len(body) <= MAX_STATUS_BYTES:
                    body += await answer.content.read(MAX_STATUS_BYTES + 1 - len(body))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ServerAbsent(f"{self._path}: {_why(error)}") from None
        if answer.status != 200 or len(body) > MAX_STATUS_BYTES:
            raise ServerAbsent(f"{self._path}: GET {target}: want 200, got {answer.status}")
        return body


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _health(body: bytes) -> ServerHealth:
    """Raises ValueError, RecursionError."""
    status = msgspec.json.decode(body, type=_Status)
    return ServerHealth(
        boot=status.boot_id,
        version=status.version,
        last_exit=status.last_exit,
        models={name: _model(model) for name, model in status.models.items()},
    )


def _model(model: _Model) -> ModelHealth:
    versions = {
        number: VersionHealth(
            state=version.state,
            reason=version.reason[:MAX_WORDS_CHARS],
            answered=version.totals.answered,
            failures=version.totals.failures,
            non_finite=version.totals.non_finite,
            run_p99_s=version.window.run_p99_s,
        )
        for number, version in model.versions.items()
    }
    return ModelHealth(model.generation, model.problem[:MAX_WORDS_CHARS], versions)
