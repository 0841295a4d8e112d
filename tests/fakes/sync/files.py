"""A disk in memory that fails, and a machine that loses its power, at any operation that a test chooses.

What programs see (the volatile view) and what is on the platters (the durable view) are kept apart, as ext4 and its kin
promise it: a file's bytes are durable when the file was synced, a name when its directory was. What was not synced may
survive, or not, or in part: `crash` makes one of these outcomes.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path

MISSING = object()


class PowerCut(BaseException):
    """The process is gone. Nothing may catch it but the test."""


class Survival(Enum):
    """What becomes of that which was not synced."""

    ALL = "all survives"
    NONE = "nothing does"
    ZERO_LENGTH = "names survive, and files are empty"
    TORN = "names survive, and files end early"
    GARBAGE = "names survive, and files hold something else"
    RENAMES_UNDONE = "bytes survive, and names do not"
    SOME_RENAMES_UNDONE = "bytes survive, and names but in the directories that `undone` picks"


class Inode:
    """One file: `durable` is what a crash leaves of it, None before the first sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable: bytes | None = None


class FaultyFiles:
    """`Files` with faults. Directories are there when they are made.

    cut_at: the number of the operation (from 0, writes only) before which the power goes; errors: error numbers by the
    number of the operation that gets them. `count`: operations so far. `forget`: names of operations that do nothing,
    to see whether a test would find out. `unreadable`: files that a read of gets EIO.
    `room_left`: bytes that are said to be free, None for all of them.
    """

    def __init__(self, *, cut_at: int | None = None, errors: dict[int, int] | None = None) -> None:
        self._names: dict[Path, Inode] = {}
        self._durable_names: dict[Path, Inode] = {}
        self._directories: set[Path] = {Path("/")}
        self._moves: list[tuple[Path, Path]] = []
        self.cut_at, self.errors = cut_at, dict(errors or {})
        self.count = 0
        self.log: list[str] = []
        self.forget: set[str] = set()
        self.room = 1 << 40
        self.room_left: int | None = None
        self.unreadable: set[Path] = set()

    # -- faults

    def _operation(self, name: str, path: Path) -> bool:
        """Count one that changes something; False where it is to be forgotten."""
        number, self.count = self.count, self.count + 1
        self.log.append(f"{name} {path}")
        if self.cut_at is not None and number >= self.cut_at:
            raise PowerCut
        if number in self.errors:
            code = self.errors[number]
            raise OSError(code, errno.errorcode[code], str(path))
        return name not in self.forget

    def crash(self, survival: Survival, seed: int = 0, undone: Callable[[Path], bool] = lambda directory: True) -> None:
        """The power comes back: what programs see from now on is what was on the disk."""
        chance = random.Random(seed)
        names = self._durable_names if survival in (Survival.NONE, Survival.RENAMES_UNDONE) else self._names
        if survival is Survival.SOME_RENAMES_UNDONE:
            names = {path: inode for path, inode in self._names.items() if not undone(path.parent)}
            names |= {path: inode for path, inode in self._durable_names.items() if undone(path.parent)}
        left: dict[Path, Inode] = {}
        made: dict[int, Inode] = {}
        for path, inode in names.items():
            if id(inode) not in made:
                made[id(inode)] = _after(inode, survival, chance)
            left[path] = made[id(inode)]
        self._names, self._durable_names = dict(left), dict(left)
        self.cut_at, self.errors = None, {}
        self._moves.clear()

    def flip(self, path: Path, at: int = 0, bit: int = 1) -> None:
        """One bit of what is on the disk is another now, under all the file's names."""
        inode = self._names[path]
        inode.data[at] ^= bit
        if inode.durable is not None and at < len(inode.durable):
            inode.durable = bytes(inode.data)

    # -- Files

    def read(self, path: Path) -> bytes:
        return bytes(self._readable(path).data)

    def read_at(self, path: Path, offset: int, count: int) -> bytes:
        return bytes(self._readable(path).data[offset : offset + count])

    def size(self, path: Path) -> int | None:
        return len(self._names[path].data) if path in self._names else None

    def names(self, directory: Path) -> Sequence[str]:
        depth = len(directory.parts)
        below = (each for each in (*self._names, *self._directories) if each.is_relative_to(directory))
        return sorted({path.parts[depth] for path in below if len(path.parts) > depth})

    def make(self, directory: Path) -> None:
        if directory not in self._directories and self._operation("make", directory):
            self._directories |= {directory, *directory.parents}

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self._in_a_directory(path)
        if not self._operation("write", path):
            return
        if path not in self._names:
            self._names[path] = Inode()
        content = self._names[path].data
        if data:
            content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def truncate(self, path: Path, size: int) -> None:
        if self._operation("truncate", path):
            content = self._inode(path).data
            del content[size:]
            content.extend(bytes(size - len(content)))

    def allocate(self, path: Path, size: int) -> None:
        self._in_a_directory(path)
        if not self._operation("allocate", path):
            return
        if size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self._names.setdefault(path, Inode())

    def sync(self, path: Path) -> None:
        inode = self._inode(path)
        if self._operation("sync", path):
            inode.durable = bytes(inode.data)

    def sync_directory(self, directory: Path) -> None:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(directory))
        if not self._operation("sync_directory", directory):
            return
        for source, target in [move for move in self._moves if move[1].parent == directory]:
            # A directory that was moved takes with it what was durable in it.
            self._moves.remove((source, target))
            for old in [each for each in self._durable_names if each.is_relative_to(source)]:
                self._durable_names[target / old.relative_to(source)] = self._durable_names.pop(old)
        for path in [path for path in self._durable_names if path.parent == directory]:
            del self._durable_names[path]
        self._durable_names |= {path: inode for path, inode in self._names.items() if path.parent == directory}

    def rename(self, source: Path, target: Path) -> None:
        moved = list(self._moved(source, target))
        if not moved and source not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))
        if target in self._directories and self.names(target):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(target))
        if not self._operation("rename", source):
            return
        for old, new in moved:
            self._names[new] = self._names.pop(old)
        for old in [each for each in self._directories if each.is_relative_to(source)]:
            self._directories.remove(old)
            self._directories.add(target / old.relative_to(source))
        if target in self._directories:
            self._moves.append((source, target))

    def link(self, source: Path, target: Path) -> None:
        inode = self._inode(source)
        self._in_a_directory(target)
        if target in self._names:
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        if self._operation("link", target):
            self._names[target] = inode

    def same(self, one: Path, other: Path) -> bool:
        return one in self._names and self._names[one] is self._names.get(other)

    def remove(self, path: Path) -> None:
        below = [each for each in (*self._names, *self._directories) if each.is_relative_to(path)]
        if below and self._operation("remove", path):
            for each in below:
                self._names.pop(each, None)
                self._directories.discard(each)

    def free(self, directory: Path) -> int:
        return self.room if self.room_left is None else self.room_left

    def total(self, directory: Path) -> int:
        return self.room

    # -- what they share

    def _inode(self, path: Path) -> Inode:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def _readable(self, path: Path) -> Inode:
        if path in self.unreadable:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return self._inode(path)

    def _in_a_directory(self, path: Path) -> None:
        if path.parent not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path.parent))

    def _moved(self, source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
        for path in self._names:
            if path.is_relative_to(source):
                yield path, target / path.relative_to(source) if path != source else target


def _after(inode: Inode, survival: Survival, chance: random.Random) -> Inode:
    """The file as the crash left it; what was synced and not changed since is whole."""
    after = Inode()
    durable = inode.durable
    if durable is not None and durable == inode.data:
        after.data = bytearray(durable)
    elif survival in (Survival.ALL, Survival.RENAMES_UNDONE, Survival.SOME_RENAMES_UNDONE):
        after.data = bytearray(inode.data)
    elif survival is Survival.NONE:
        after.data = bytearray(durable or b"")
    elif survival is Survival.ZERO_LENGTH:
        after.data = bytearray()
    elif survival is Survival.TORN:
        after.data = inode.data[: chance.randrange(len(inode.data) + 1)]
    else:
        after.data = bytearray(chance.randbytes(len(inode.data)))
    after.durable = bytes(after.data)
    return after
