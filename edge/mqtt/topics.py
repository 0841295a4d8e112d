"""The tree of topics, and the rules of what may stand in it. Pure.

P = {prefix}/v1/{node}. A level that begins with `_` is nobody's name: `_reply`, `_pool`, `_fleet`. `v1` is the version of
this tree and no setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from edge.domain.layout import is_model_name, version_of
from edge.domain.node import NODE

PROTOCOL = "v1"
MAX_REPLY_TOPIC_BYTES = 256
MAX_REPLY_LEVELS = 16
"""Brokers end the connection of who publishes to more levels than they take; Mosquitto takes 200."""
MAX_CORRELATION_BYTES = 64
EVERYONE = "all"
"""The group that every node and every device is in."""

GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
COMMAND = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}){0,3}", re.ASCII)
CLIENT = re.compile(r"[A-Za-z0-9_.:@-]{1,128}", re.ASCII)
"""Of a client's name and of a request's id, where they are levels of a topic."""

_NOT_IN_REPLIES = re.compile(
    "[+#\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
"""Wildcards, and what a broker may end the connection over: control characters and what Unicode has for no character (MQTT 5,
section 1.5.4)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Where the answer goes when there are no properties that say so: `_reply/{client}/{id}`."""

    client: str
    id: str


@dataclass(frozen=True, slots=True)
class Infer:
    """A request's topic. `version` None: the default one. `pool`: the group that it was shared in, if it was."""

    model: str
    version: int | None = None
    reply: Reply | None = None
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command's topic. `group`: of the fleet, where it is not for one node."""

    name: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """What is wished has changed. `group` as in Command."""

    group: str | None = None


class Tree:
    """The topics of one node. Raises ValueError for a prefix or a name that cannot be one."""

    def __init__(self, prefix: str, node: str) -> None:
        if PREFIX.fullmatch(prefix) is None:
            raise ValueError(f"want a prefix such as edge or site/edge, got {prefix!r}")
        if NODE.fullmatch(node) is None:
            raise ValueError(f"want a node's name of at most 63 letters a-z, digits and inner hyphens, got {node!r}")
        self.prefix, self.node = prefix, node
        self.root = f"{prefix}/{PROTOCOL}"
        self.base = f"{self.root}/{node}"
        self.status = f"{self.base}/status"
        self.info = f"{self.base}/info"
        self.stats = f"{self.base}/stats"
        self.desired = f"{self.base}/desired"
        self.reported = f"{self.base}/reported"
        self.sync = f"{self.base}/sync"
        self.infer_filter = f"{self.base}/infer/#"
        self.command_filter = f"{self.base}/cmd/+"
        self.reply_filter = f"{self.root}/_reply/#"

    def model(self, name: str) -> str:
        return f"{self.base}/models/{name}"

    def events(self, model: str) -> str:
        return f"{self.base}/events/{model}"

    def command(self, name: str) -> str:
        return f"{self.base}/cmd/{name}"

    def command_result(self, name: str) -> str:
        return f"{self.base}/cmd/{name}/result"

    def fleet_command(self, group: str, name: str) -> str:
        return f"{self.root}/_fleet/{group}/cmd/{name}"

    def fleet_desired(self, group: str) -> str:
        return f"{self.root}/_fleet/{group}/desired"

    def pool(self, group: str, model: str) -> str:
        """Where a request to whichever server of the group goes."""
        return f"{self.root}/_pool/{group}/infer/{model}"

    def pool_filter(self, group: str, model: str) -> str:
        """The shared subscription. It takes the model's own topic and all below."""
        return f"$share/{group}/{self.pool(group, model)}/#"

    def reply(self, to: Reply) -> str:
        return f"{self.root}/_reply/{to.client}/{to.id}"

    def reply_error(self, to: Reply) -> str:
        return f"{self.root}/_reply/{to.client}/{to.id}/error"

    def parse(self, topic: str) -> Infer | Command | Desired | None:
        """What a topic asks of this node; None for what is none of its business or has no such form."""
        head, root = topic[: len(self.root)], topic[len(self.root) : len(self.root) + 1]
        if head != self.root or root != "/":
            return None
        levels = topic[len(self.root) + 1 :].split("/")
        if levels[0] == self.node:
            return _own(levels[1:])
        if len(levels) >= 3 and GROUP.fullmatch(levels[1]) is not None:
            if levels[0] == "_pool" and levels[2] == "infer":
                return _infer(levels[3:], pool=levels[1])
            if levels[0] == "_fleet":
                return _told(levels[2:], levels[1])
        return None


def _own(levels: Sequence[str]) -> Infer | Command | Desired | None:
    if levels and levels[0] == "infer":
        return _infer(levels[1:], pool=None)
    return _told(levels, None)


def _told(levels: Sequence[str], group: str | None) -> Command | Desired | None:
    if len(levels) == 2 and levels[0] == "cmd" and COMMAND.fullmatch(levels[1]):
        return Command(levels[1], group)
    return Desired(group) if list(levels) == ["desired"] else None


def _infer(levels: Sequence[str], *, pool: str | None) -> Infer | None:
    """{model}[/versions/{version}][/req/{client}/{id}]"""
    if not levels or not is_model_name(levels[0]):
        return None
    rest, version, reply = list(levels[1:]), None, None
    if len(rest) >= 2 and rest[0] == "versions":
        version = version_of(rest[1])
        if version is None:
            return None
        rest = rest[2:]
    if len(rest) == 3 and rest[0] == "req" and all(CLIENT.fullmatch(level) for level in rest[1:]):
        reply = Reply(rest[1], rest[2])
        rest = []
    return Infer(levels[0], version, reply, pool) if not rest else None


def matches(filter: str, topic: str) -> bool:
    """Whether a subscription to `filter` gets what is published to `topic` (MQTT 5, section 4.7)."""
    if filter.startswith("$share/"):
        filter = filter.split("/", 2)[2] if filter.count("/") >= 2 else ""
    wanted, levels = filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for number, want in enumerate(wanted):
        if want == "#":
            return number == len(wanted) - 1
        if number >= len(levels) or want not in ("+", levels[number]):
            return False
    return len(wanted) == len(levels)


def reply_problem(topic: str, allowed: Iterable[str]) -> str:
    """Why nothing may be published to a topic that a client asks for; empty where it may. `allowed` are filters.

    Else whoever may ask for an inference could have the server publish into anybody's topics, with the server's rights.
    """
    size = len(topic.encode(errors="replace"))
    if size > MAX_REPLY_TOPIC_BYTES:
        return f"want a response topic of at most {MAX_REPLY_TOPIC_BYTES} bytes, got {size}"
    return _reply_problem(topic, tuple(allowed))


@lru_cache(maxsize=1024)
def _reply_problem(topic: str, allowed: tuple[str, ...]) -> str:
    """A client asks for the same one again and again."""
    if not topic:
        return "want a response topic, got an empty one"
    if _NOT_IN_REPLIES.search(topic) is not None:
        return "want a response topic without wildcards, control characters and what is no character"
    if topic.count("/") >= MAX_REPLY_LEVELS:
        return f"want a response topic of at most {MAX_REPLY_LEVELS} levels, got {topic.count('/') + 1}"
    if topic.startswith("$"):
        return "want a response topic that does not begin with $"
    if not any(matches(filter, topic) for filter in allowed):
        return "the response topic is none that this server may publish to"
    return ""
