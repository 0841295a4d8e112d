"""A store in a directory: a disk, a USB stick, what a web server serves.

Rule 1: an object appears whole, by a link or a rename, after it was synced. Rule 2: who swaps holds the store's lock.
Rule 3: what is read is one file from its first byte to its last, whatever has its name meanwhile.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from sync.domain.errors import Conflict, Missing, Refused, Unreachable
from sync.domain.ports import Part
from sync.domain.release import check_path

STEP_BYTES = 1 << 18
LOCK = ".lock"
NEW = ".new"
MAX_TAGGED_BYTES = 5_000_000
"""Of an object that is compared and swapped."""


class DirectoryStore:
    """Writes below `directory`, which is made when the first object is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def name(self) -> str:
        return str(self._directory)

    async def close(self) -> None: ...

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused."""
        return await asyncio.to_thread(self._get, path, max_bytes)

    def _get(self, path: str, max_bytes: int) -> bytes:
        with self._errors(path), self._open(path) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise Refused(f"{self.name}: {path}: want at most {max_bytes} bytes, got more")
        return data

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        return await asyncio.to_thread(self._part, path, start, etag)

    def _part(self, path: str, start: int, etag: str) -> Part:
        with self._errors(path):
            file = self._open(path)
            status = os.fstat(file.fileno())
            tag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
            begin = start if etag in ("", tag) and start <= status.st_size else 0
            file.seek(begin)
        return Part(begin, status.st_size, tag, _Chunks(file, f"{self.name}: {path}"))

    def _open(self, path: str) -> FileIO:
        """Raises OSError, also for what is no file: a pipe would be waited for."""
        handle = os.open(self._file(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise IsADirectoryError
        return FileIO(handle)

    async def create(self, path: str, data: bytes | Path) -> bool:
        """Raises Unreachable, Refused."""
        return await asyncio.to_thread(self._create, path, data)

    def _create(self, path: str, data: bytes | Path) -> bool:
        target = self._file(path)
        if target.exists():
            with suppress(OSError):
                os.utime(target)  # somebody wants it: to who collects garbage it is new
            return False
        with self._errors(path), self._written(target, data) as fresh:
            try:
                os.link(fresh, target)
            except FileExistsError:
                return False
            _sync(target.parent)
        return True

    async def tagged(self, path: str) -> tuple[bytes, str] | None:
        """Raises Unreachable, Refused."""
        return await asyncio.to_thread(self._tagged, path)

    def _tagged(self, path: str) -> tuple[bytes, str] | None:
        try:
            data = self._get(path, MAX_TAGGED_BYTES)
        except Missing:
            return None
        return data, hashlib.sha256(data).hexdigest()

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        """Raises Conflict, Unreachable, Refused."""
        return await asyncio.to_thread(self._swap, path, data, was)

    def _swap(self, path: str, data: bytes, was: str | None) -> str:
        target = self._file(path)
        with self._errors(path), self._written(target, data) as fresh, self._lock():
            found = self._tagged(path)
            if (found[1] if found else None) != was:
                raise Conflict(f"{self.name}: somebody else has written {path} meanwhile; nothing was changed")
            os.rename(fresh, target)
            _sync(target.parent)
        return hashlib.sha256(data).hexdigest()

    async def walk(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Raises Unreachable, Refused."""
        for each in await asyncio.to_thread(lambda: list(self._walk(prefix))):
            yield each

    def _walk(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        below = self._file(prefix.strip("/")) if prefix.strip("/") else self._directory
        if not below.is_dir():
            return
        with self._errors(prefix):
            for folder, _, files in os.walk(below, onerror=_unless_gone):
                for name in sorted(files):
                    if name == LOCK or name.endswith(NEW):
                        continue
                    file = Path(folder, name)
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        status = file.stat()
                        yield file.relative_to(self._directory).as_posix(), status.st_size, status.st_mtime

    async def delete(self, path: str) -> None:
        """Raises Unreachable, Refused."""

        def work() -> None:
            with self._errors(path), suppress(Missing):
                self._file(path).unlink(missing_ok=True)

        await asyncio.to_thread(work)

    def _file(self, path: str) -> Path:
        try:
            check_path(path)
        except ValueError as error:
            raise Refused(str(error)) from None
        return self._directory / path

    @contextmanager
    def _written(self, target: Path, data: bytes | Path) -> Iterator[Path]:
        """The data in a file beside the target, synced; gone afterwards if it was not renamed."""
        _make(target.parent)
        fresh = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}{NEW}")
        try:
            with fresh.open("xb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, STEP_BYTES)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield fresh
        finally:
            fresh.unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        flags = (
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        )  # a pipe that is opened for both is not waited for
        handle = os.open(self._directory / LOCK, flags, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            if not self._directory.is_dir():
                absolute = self._directory.is_absolute()
                hint = f"want {path} in it" if absolute else "a URL begins with https:// or http://"
                raise Missing(f"{self.name}: no such directory; {hint}") from None
            raise Missing(f"{self.name}: {path}: no such object") from None
        except IsADirectoryError:
            raise Missing(f"{self.name}: {path}: is no file") from None
        except (OSError, ValueError) as error:
            raise Unreachable(f"{self.name}: {path}: {getattr(error, 'strerror', None) or error}") from None


class _Chunks:
    """The rest of an open file, read in threads."""

    def __init__(self, file: FileIO, what: str) -> None:
        self._file, self._what = file, what

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._file.closed:
            raise StopAsyncIteration
        try:
            data = await asyncio.to_thread(self._file.read, STEP_BYTES)
        except OSError as error:
            await self.aclose()
            raise Unreachable(f"{self._what}: {error.strerror}") from None
        if not data:
            await self.aclose()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        self._file.close()


def _unless_gone(error: OSError) -> None:
    """A listing that leaves out what it may not read would be taken for the whole."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _make(directory: Path) -> None:
    """With those above it, durably."""
    if not directory.is_dir():
        _make(directory.parent)
        with suppress(FileExistsError):
            directory.mkdir()
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
