"""The device's disk: what `sync.domain.ports.Files` promises, by the system's calls.

Rule 1: nothing here decides; whoever writes orders the syncs. Rule 2: who may read and write is said below, and by no umask.
Rule 3: what lies in a file's place and is none, such as a pipe, which would be waited for, is an error at once.

user        may                               by
edge-sync   write all of the agent's          being the owner of state_dir, models_dir and all below them
edge        read models_dir, and below it     the group `edge`: directories are 0750 and files 0640. A version's files are links
                                              to blobs, so the blobs are of that group too
edge-sync   ask the server                    the group `edge`: the admin socket is 0660
others      nothing

So the agent runs with `edge` as its primary group; or it is a member of it, and state_dir and models_dir hand down theirs
(chmod g+s). Tokens lie elsewhere, for their one reader. The server writes nothing that is the agent's: neither can hurt the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640


class OsFiles:
    """Blocks. Raises OSError only."""

    def read(self, path: Path) -> bytes:
        with open(_opened(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def read_at(self, path: Path, offset: int, count: int) -> bytes:
        with open(_opened(path, os.O_RDONLY), "rb") as file:
            file.seek(offset)
            return file.read(count)

    def size(self, path: Path) -> int | None:
        try:
            return path.stat().st_size if path.is_file() else None
        except FileNotFoundError:
            return None

    def names(self, directory: Path) -> Sequence[str]:
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return ()

    def make(self, directory: Path) -> None:
        missing = []
        while not directory.is_dir():
            missing.append(directory)
            directory = directory.parent
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=DIRECTORY_MODE)
                handed_down = each.stat().st_mode & stat.S_ISGID
                each.chmod(DIRECTORY_MODE | handed_down)  # the umask may have taken the group's part
            self.sync_directory(each.parent)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        handle = _for_writing(path)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(handle, view, offset)
                view, offset = view[written:], offset + written
        finally:
            os.close(handle)

    def truncate(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def allocate(self, path: Path, size: int) -> None:
        handle = _for_writing(path)
        try:
            length = os.fstat(handle).st_size
            if size > length:
                os.posix_fallocate(handle, length, size - length)
                os.ftruncate(handle, length)
        finally:
            os.close(handle)

    def sync(self, path: Path) -> None:
        self._sync(_opened(path, os.O_RDONLY))

    def sync_directory(self, directory: Path) -> None:
        self._sync(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def same(self, one: Path, other: Path) -> bool:
        try:
            return os.path.samefile(one, other)
        except FileNotFoundError:
            return False

    def remove(self, path: Path) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            if not path.is_dir() or path.is_symlink():
                raise
            shutil.rmtree(path)

    def free(self, directory: Path) -> int:
        room = os.statvfs(directory)
        return room.f_bavail * room.f_frsize

    def total(self, directory: Path) -> int:
        room = os.statvfs(directory)
        return room.f_blocks * room.f_frsize

    def _sync(self, handle: int) -> None:
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has nothing to sync
                raise
        finally:
            os.close(handle)


def _opened(path: Path, flags: int) -> int:
    """A file's handle. Raises OSError, also for what is no file."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind):
        return handle
    os.close(handle)
    code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
    raise OSError(code, os.strerror(code) if code == errno.EISDIR else "is no file", str(path))


def _for_writing(path: Path) -> int:
    """A handle. Raises OSError."""
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        return _opened(path, flags)
    try:
        os.fchmod(handle, FILE_MODE)  # the umask may have taken the group's part
    except OSError:
        os.close(handle)
        raise
    return handle
