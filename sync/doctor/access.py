"""Checks of who may read and write what: two processes of two users, as `sync.agent.files` says. Blocks; changes nothing.

Rule 1: by owners, groups and modes, so that root may ask for others; access control lists are not looked at.
Rule 2: who the agent is, is asked of its process, else of who owns its directory; who the server is, of who owns its socket.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync.agent.view import View
from sync.config import Config
from sync.doctor.finding import Finding, fail, ok, warn
from sync.doctor.look import places_of
from sync.domain.errors import DiskError, ServerAbsent
from sync.domain.journal import Journal

READ, WRITE, ENTER = 4, 2, 1
RUN_AS = "run the agent with the server's group as its primary group, and `chgrp -R` what is there"


@dataclass(frozen=True, slots=True)
class Who:
    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        return user_name(self.uid)


def may(who: Who, found: os.stat_result, want: int) -> bool:
    """By POSIX's rule: the first class that fits decides. want: READ, WRITE and ENTER, added up."""
    if who.uid == 0:
        return True
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == who.uid:
        return mode >> 6 & want == want
    return (mode >> 3 if found.st_gid in who.groups else mode) & want == want


def kept_from(who: Who, path: Path, want: int) -> str:
    """Why the path, or one above it, keeps somebody from it; "" where none does. Raises OSError."""
    for above in reversed(path.absolute().parents):
        if not may(who, above.stat(), ENTER):
            return f"{who.name} may not enter {_described(above)}"
    return "" if may(who, path.stat(), want) else f"{who.name} may not {_named(want)} {_described(path)}"


def check_access(config: Config, view: View | None) -> Iterator[Finding]:
    places = places_of(config)
    agent = agent_user(view, places.state_dir)
    server = owner_of(Path(config.paths.admin_uds))
    yield from _directories((places.state_dir, places.models_dir), agent)
    if server is None:
        yield warn(
            "access", "whether the server may read the models cannot be told: its socket is not there", "start it"
        )
    elif agent is not None:
        yield _server_reads(places.models_dir, view.journal if view is not None else None, server)
    if server is not None:  # else it is the server's check that says so
        yield _socket(Path(config.paths.admin_uds), agent or Who(os.geteuid(), frozenset(os.getgroups())))


def _directories(paths: Sequence[Path], agent: Who | None) -> Iterator[Finding]:
    me = os.geteuid()
    if agent is not None and me not in (0, agent.uid):
        text = f"this runs as {user_name(me)}, and the agent is {agent.name}: not everything can be seen"
        yield warn("access", text, f"run this as {agent.name}, or as root")
    for path in paths:
        try:
            found = path.stat()
            problem = kept_from(agent, path, READ | WRITE | ENTER) if agent is not None else ""
        except FileNotFoundError:
            yield ok("access", f"{path} is made at the agent's first start")
            continue
        except OSError as error:
            yield fail("access", DiskError(f"{path}: {error.strerror}"))
            continue
        if problem:
            yield fail("access", DiskError(problem), "chown it to the agent's user")
        elif agent is not None and found.st_uid != agent.uid:
            foreign = DiskError(f"{_described(path)}: want it owned by {agent.name}, who makes links in it")
            yield fail("access", foreign, "chown it to the agent's user")
        elif found.st_mode & stat.S_IWOTH:
            yield fail("access", DiskError(f"{_described(path)}: anybody may change what is in it"), "chmod o-w")
        elif found.st_mode & stat.S_IWGRP:
            yield warn("access", f"{_described(path)}: the group may change what is in it", "chmod g-w")
        else:
            yield ok("access", f"{_described(path)}")


def _server_reads(models_dir: Path, journal: Journal | None, server: Who) -> Finding:
    """Whether the server gets at what the journal says that it serves."""
    paths = [(models_dir, READ | ENTER)]
    for name, state in (journal.models if journal is not None else {}).items():
        for release in (state.active, state.previous, state.candidate):
            if release is not None:
                version = models_dir / name / str(release.version)
                paths += [(version, READ | ENTER), *((version / file.path, READ) for file in release.files)]
    try:
        for path, want in paths:
            if path.exists() and (problem := kept_from(server, path, want)):
                return fail("access", DiskError(problem), RUN_AS)
    except OSError as error:
        return warn(
            "access", f"whether {server.name} may read the models cannot be told: {error.strerror}", "run this as root"
        )
    return ok("access", f"{server.name}, the server, may read {models_dir}")


def _socket(path: Path, agent: Who) -> Finding:
    try:
        found = path.stat()
        problem = kept_from(agent, path, READ | WRITE)
    except OSError as error:
        return fail("socket", ServerAbsent(f"{path}: {error.strerror}"), "put the agent's user into the server's group")
    if not stat.S_ISSOCK(found.st_mode):
        return fail("socket", ServerAbsent(f"{path}: is no socket"), "see paths.admin_uds")
    if problem:
        return fail("socket", ServerAbsent(problem), "put the agent's user into the server's group")
    if found.st_mode & stat.S_IWOTH and all(above.stat().st_mode & stat.S_IXOTH for above in path.absolute().parents):
        return warn("socket", f"{_described(path)}: anybody on the device may unload models", "chmod o-rwx")
    return ok("socket", _described(path))


def agent_user(view: View | None, state_dir: Path) -> Who | None:
    """None where there is no trace of one."""
    if view is not None and view.running and view.situation is not None:
        return _process_user(view.situation.process.pid) or owner_of(state_dir)
    return owner_of(state_dir)


def owner_of(path: Path) -> Who | None:
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        user = pwd.getpwuid(found.st_uid)
    except KeyError:
        return Who(found.st_uid, frozenset({found.st_gid}))
    return Who(found.st_uid, frozenset(os.getgrouplist(user.pw_name, user.pw_gid)))


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _process_user(pid: int) -> Who | None:
    """By its effective user and all its groups."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
        groups = {int(fields["Gid"][1]), *map(int, fields.get("Groups", []))}
        return Who(int(fields["Uid"][1]), frozenset(groups))
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _described(path: Path) -> str:
    found = path.stat()
    return f"{path} ({stat.filemode(found.st_mode)}, {user_name(found.st_uid)}, group {found.st_gid})"


def _named(want: int) -> str:
    return "read and write" if want & WRITE else "read"
