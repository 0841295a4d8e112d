"""What the agent and the operator's tools need of the world. Each promises its errors.

Rule 1: a `Store` moves bytes and believes nothing: whoever reads checks digests and signatures.
Rule 2: `Files` is all of the disk that a crash may interrupt; nothing else may write below the agent's directories.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Part:
    """An answer to a ranged GET. `start`: where the body begins; `total`: the whole object's size, None if unsaid.

    `etag`: "" where the store has none. `chunks` raises Unreachable, Refused.
    """

    start: int
    total: int | None
    etag: str
    chunks: AsyncIterator[bytes]

    async def close(self) -> None:
        """No more is read: what brings it is let go of."""
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()


class ReadStore(Protocol):
    """Where bytes come from: a web server, a directory, a bucket, a peer."""

    @property
    def name(self) -> str:
        """For messages and bans: a URL without secrets."""
        ...

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """The whole object. Raises Missing, Unreachable, Refused (also where it is longer than `max_bytes`)."""
        ...

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """From byte `start` on where the object is still the one with `etag` ("" for any); else from 0. `Part.close` ends it.

        Raises Missing, Unreachable, Refused.
        """
        ...

    async def close(self) -> None: ...


class WriteStore(ReadStore, Protocol):
    """Where a publisher writes."""

    async def create(self, path: str, data: bytes | Path) -> bool:
        """Durably, unless it is there: then False, and nothing is changed. Raises Unreachable, Refused.

        What is there with the same bytes is as new to `walk` from now on, so that nobody takes it for garbage.
        """
        ...

    async def tagged(self, path: str) -> tuple[bytes, str] | None:
        """An object with the tag to hand to `swap`; None where there is none. Raises Unreachable, Refused."""
        ...

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        """Replace the object durably if its tag is still `was`, None for "none is there"; its tag from now on.

        Raises Conflict, Unreachable, Refused.
        """
        ...

    def walk(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Path, size in bytes and time of change (seconds since the epoch) of every object below. Raises Unreachable, Refused."""
        ...

    async def delete(self, path: str) -> None:
        """Nothing happens where it is not there. Raises Unreachable, Refused."""
        ...


class Files(Protocol):
    """A file system. Blocks. Raises OSError only. What is not synced may be lost, torn or undone by a crash."""

    def read(self, path: Path) -> bytes: ...
    def read_at(self, path: Path, offset: int, count: int) -> bytes:
        """Fewer bytes at the end of the file."""
        ...

    def size(self, path: Path) -> int | None:
        """Bytes; None where there is no such file."""
        ...

    def names(self, directory: Path) -> Sequence[str]:
        """In order; empty where there is no such directory."""
        ...

    def make(self, directory: Path) -> None:
        """With those above it, durably."""
        ...

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Creates the file where it is not there; not durable before `sync`."""
        ...

    def truncate(self, path: Path, size: int) -> None: ...
    def allocate(self, path: Path, size: int) -> None:
        """Reserve room for so many bytes without changing the file's length. Raises OSError (ENOSPC)."""
        ...

    def sync(self, path: Path) -> None:
        """What is in the file survives a crash."""
        ...

    def sync_directory(self, directory: Path) -> None:
        """What names the directory has survives a crash."""
        ...

    def rename(self, source: Path, target: Path) -> None: ...
    def link(self, source: Path, target: Path) -> None:
        """Another name for a file."""
        ...

    def same(self, one: Path, other: Path) -> bool:
        """Whether both are names of one file."""
        ...

    def remove(self, path: Path) -> None:
        """A file, or a directory with all below it. Nothing happens where it is not there."""
        ...

    def free(self, directory: Path) -> int:
        """Bytes that may be written by whoever is not root."""
        ...

    def total(self, directory: Path) -> int:
        """Bytes of the whole file system."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch; may be wrong, and may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class VersionHealth:
    """One version in the server. `state` as `edge.domain.lifecycle.State` has it; counts since the process first loaded it.

    `answered`: requests that got what they asked for; `failures`: those that the version failed; `non_finite`: answers
    with a NaN or an infinity. `run_p99_s`: seconds of a run alone, over the last minute.
    """

    state: str
    reason: str = ""
    answered: int = 0
    failures: int = 0
    non_finite: int = 0
    run_p99_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """`generation`: of the aspired file that the server acts on. `problem`: what is wrong with the file, or empty."""

    generation: int = 0
    problem: str = ""
    versions: Mapping[int, VersionHealth] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`boot`: another one after each start of the server. `last_exit`: how the process before ended, e.g. "clean"."""

    boot: str
    version: str = ""
    last_exit: str = "unknown"
    models: Mapping[str, ModelHealth] = field(default_factory=dict)


class ModelServer(Protocol):
    """The server beside the agent, by its admin socket. It is asked and never told: what it is to do, the model directory says.

    (`POST /v1/reload` would have it try what has failed once more, and forget which versions brought it down.)
    """

    async def health(self) -> ServerHealth:
        """Raises ServerAbsent."""
        ...
