"""What the agent is told before it starts: one TOML file, each key of which a flag or `EDGE_SYNC_<SECTION>__<KEY>` may override.

Rule 1: unknown keys, wrong types and values out of range are refused, all at once, each with who set it. Rule 2: no secret is a
value; there are only names of files. Rule 3: units are in the keys' names.
"""

from __future__ import annotations

import difflib
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from edge.domain.toml import broken_at, find_lines, line_of
from sync.domain.errors import OperatorError

PREFIX = "EDGE_SYNC_"
NOT_KEYS = frozenset({"EDGE_SYNC_CONFIG", "EDGE_SYNC_STORE", "EDGE_SYNC_KEYS"})
"""Names that the commands themselves read."""
MAX_FILE_BYTES = 1 << 20

Given = dict[tuple[str, str], tuple[str, Any]]
"""By section and key: who set it, and to what."""

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Pause = Annotated[float, msgspec.Meta(ge=0.01)]
"""Seconds that may not be none: nothing would be done but looking."""
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Window = Annotated[str, msgspec.Meta(pattern=r"^((?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9])?$")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class DeviceSection(Section, frozen=True):
    """Who this is. `accelerators`: what models may run on."""

    id: Name = socket.gethostname() or "device"
    group: Name = "default"
    rings: tuple[Name, ...] = ()
    accelerators: tuple[str, ...] = ("cpu",)


class StoreSection(Section, frozen=True):
    """`url`: a directory, http://, https:// or s3://. `root`: the metadata that the device was provisioned with."""

    url: str = ""
    root: str = "/etc/edge/root.json"
    token_file: str = ""
    ca_file: str = ""


class PathsSection(Section, frozen=True):
    """On one file system: `state_dir` holds the blobs that the versions in `models_dir` are links to.

    `ephemeral`: that they may be in memory, where the power takes along what protects from old metadata.
    """

    state_dir: str = "/var/lib/edge/sync"
    models_dir: str = "/var/lib/edge/models"
    admin_uds: str = "/run/edge/admin.sock"
    ephemeral: bool = False


class PollSection(Section, frozen=True):
    """`jitter`: the share by which a pause may be shorter or longer."""

    every_s: Seconds = 900.0
    max_s: Seconds = 6 * 3600.0
    jitter: Share = 0.2


class UpdateSection(Section, frozen=True):
    """As `sync.agent.limits.UpdateLimits` and `sync.agent.staging.Reserve` have them."""

    deadline_s: Seconds = 0.0
    stagger_s: Seconds = 300.0
    retry_s: Pause = 15.0
    max_retry_s: Pause = 3600.0
    cool_down_s: Seconds = 3600.0
    watch_s: Pause = 1.0
    swap_timeout_s: Pause = 900.0
    unready_timeout_s: Pause = 900.0
    keep_s: Pause = 86400.0
    min_free_bytes: Whole = 64 << 20
    min_free_share: Share = 0.03


class NetworkSection(Section, frozen=True):
    """`limit_Bps`: bytes per second for downloads, 0 for no limit. `window`: when they may be, in local time, over midnight
    where the second time is the smaller, e.g. "22:00-05:00"; empty for always. A device without any version of a model, and
    a rollout whose deadline is over, wait for no window.

    `peers`: whether blobs may come from neighbours on the local network, and go to them. `peer_interfaces`: where, by names or
    addresses; empty for every interface with a private address. `peer_port`: to share at, 0 for any. `peer_limit_Bps`: bytes per
    second from neighbours, and to them; 0 for no limit. `stall_s`: for a source's next bytes; `source_s`: for all that is asked
    of one source for a file.
    """

    limit_Bps: Whole = 0
    stall_s: Pause = 120.0
    source_s: Pause = 6 * 3600.0
    window: Window = ""
    peers: Literal["off", "use", "use_and_share"] = "off"
    peer_interfaces: tuple[str, ...] = ()
    peer_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    peer_limit_Bps: Whole = 10_000_000


class ReportSection(Section, frozen=True):
    """`url`: where reports are posted; empty for the broker, where there is one, else for nowhere. `timeout_s`: for one to be taken; `retry_s`, doubled up to
    `max_retry_s`: between tries; `max_waiting`: reports that are kept.
    """

    url: str = ""
    token_file: str = ""
    heartbeat_s: Seconds = 6 * 3600.0
    timeout_s: Pause = 30.0
    retry_s: Pause = 15.0
    max_retry_s: Pause = 3600.0
    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class MqttSection(Section, frozen=True):
    """`host`: the broker's; empty for none. `port`: 0 for 1883, and with TLS for 8883. `groups`: that it listens to beside its own and
    `all`. `commands`: which it obeys. `reply_allow`: filters of topics that answers may go to; empty for those below `_reply`.

    `nudge_every_s`: between two polls that are asked for. `fleet_jitter_s`: within which the devices of a group follow.
    """

    host: str = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    prefix: str = "edge"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    groups: tuple[Name, ...] = ()
    commands: Literal["off", "ask", "all"] = "ask"
    reply_allow: tuple[str, ...] = ()
    nudge_every_s: Pause = 30.0
    fleet_jitter_s: Seconds = 60.0


class Config(Section, frozen=True):
    device: DeviceSection = DeviceSection()
    store: StoreSection = StoreSection()
    paths: PathsSection = PathsSection()
    poll: PollSection = PollSection()
    network: NetworkSection = NetworkSection()
    update: UpdateSection = UpdateSection()
    report: ReportSection = ReportSection()
    mqtt: MqttSection = MqttSection()


SECTIONS: Mapping[str, type[Section]] = {field.name: field.type for field in msgspec.structs.fields(Config)}


@dataclass(frozen=True, slots=True)
class Resolved:
    """`origins` has every key, by its dotted name: FILE:LINE, a variable, a flag, or "default"; `warnings` are for who starts it."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def load_config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """The configuration alone. Raises OperatorError."""
    return resolve(file, environment, flags).config


def resolve(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Resolved:
    """flags: dotted keys to values, None for one not given. Raises OperatorError."""
    given = _read(file) if file is not None else {}
    above, warnings = _from_environment(environment)
    given |= above
    for dotted, value in flags.items():
        section, _, key = dotted.partition(".")
        if value is not None:
            given[section, key] = (f"--set {dotted}", _listed(section, key, value))
    problems = [
        f"{who}: {problem}"
        for (section, key), (who, value) in given.items()
        if (problem := _problem(section, key, value))
    ]
    _refuse(problems)
    tree: dict[str, dict[str, Any]] = {}
    for (section, key), (_, value) in given.items():
        tree.setdefault(section, {})[key] = value
    origins = {
        f"{section}.{key}": given.get((section, key), ("default", None))[0]
        for section in SECTIONS
        for key in _defaults(section)
    }
    config = msgspec.convert(tree, Config, strict=False)
    _refuse([f"{origins[key]}: {key}: {problem}" for key, problem in _unfit(config)])
    return Resolved(config, origins, tuple(warnings))


def _refuse(problems: list[str]) -> None:
    """Raises OperatorError where there are any."""
    if len(problems) == 1:
        raise OperatorError(f"configuration: {problems[0]}")
    if problems:
        raise OperatorError("configuration:", problems)


def _unfit(config: Config) -> Iterator[tuple[str, str]]:
    """Keys of which no topics can be made where there is a broker, and what is wrong."""
    if not config.mqtt.host:
        return
    from edge.mqtt.topics import NODE, PREFIX

    device, prefix = config.device.id, config.mqtt.prefix
    if NODE.fullmatch(device) is None:
        yield "device.id", f"with mqtt.host, want at most 63 letters a-z, digits and inner hyphens, got {device!r}"
    if PREFIX.fullmatch(prefix) is None:
        yield "mqtt.prefix", f"want a prefix such as edge or site/edge, got {prefix!r}"


def plain(config: Config) -> dict[str, Any]:
    """Every key by its dotted name, in values that JSON and TOML have."""
    tree = msgspec.to_builtins(config)
    return {f"{section}.{key}": value for section, table in tree.items() for key, value in table.items()}


def _from_environment(environment: Mapping[str, str]) -> tuple[Given, list[str]]:
    """And a warning for each name that begins as ours do and is none."""
    given: Given = {}
    warnings = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in NOT_KEYS:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if key:
            key = _spelled(section, key)
            given[section, key] = (name, _listed(section, key, text))
        else:
            warnings.append(f"{name}: no such setting; {_meant(section)}")
    return given, warnings


def _meant(rest: str) -> str:
    """What to write in place of a variable with one underscore where two belong."""
    for section in SECTIONS:
        for key in _defaults(section):
            if rest == f"{section}_{key}".lower():
                return f"did you mean {PREFIX}{section.upper()}__{key.upper()}?"
    return f"a key is set by {PREFIX}SECTION__KEY"


def _problem(section: str, key: str, value: Any) -> str:
    """What is wrong with a value, "" for nothing."""
    if section not in SECTIONS:
        return f"{section}: no such section; there are {', '.join(SECTIONS)}"
    keys = {field.name: field.type for field in msgspec.structs.fields(SECTIONS[section])}
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {section}.{near[0]}?" if near else f"there are {', '.join(keys)}"
        return f"{section}.{key}: no such key; {hint}"
    try:
        msgspec.convert(value, keys[key], strict=False)
    except msgspec.ValidationError as error:
        return f"{section}.{key}: {_wanted(keys[key], str(error))}, got {value!r:.80}"
    start, _, end = str(value).partition("-") if (section, key) == ("network", "window") else ("", "", "")
    if start and start == end:
        return f"{section}.{key}: want two times that differ, got {value!r}"
    return ""


def _wanted(kind: Any, text: str) -> str:
    """msgspec's words in ours: Expected `float` >= 0.0, got `str` → want float >= 0.0."""
    if get_origin(kind) is Literal:
        return f"want one of {', '.join(get_args(kind))}"
    return text.partition(", got")[0].partition(" - at `")[0].replace("Expected", "want", 1).replace("`", "")


def _read(file: Path) -> Given:
    """Raises OperatorError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise OperatorError(f"{file}: want at most {MAX_FILE_BYTES} bytes")
        text = data.decode()
        tree = tomllib.loads(text)
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(10) + 1
        raise OperatorError(f"{file}:{line}: not TOML: want UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{file}:{broken_at(text, str(error))}: not TOML: {error}") from None
    lines, given = find_lines(text), Given()
    for section, table in tree.items():
        where = f"{file}:{line_of(lines, (section,))}"
        if not isinstance(table, dict):
            raise OperatorError(f"{where}: {section}: want a section, [{section}]")
        given |= {(section, key): (f"{file}:{line_of(lines, (section, key))}", value) for key, value in table.items()}
        if not table and section not in SECTIONS:
            given[section, ""] = (where, None)
    return given


def _spelled(section: str, key: str) -> str:
    """A variable's name is in capitals; the key's own spelling may not be."""
    return next((name for name in _defaults(section) if name.lower() == key), key)


def _listed(section: str, key: str, value: Any) -> Any:
    """In a flag or a variable, a list is `a,b`."""
    if isinstance(value, str) and isinstance(_defaults(section).get(key), tuple):
        return [each for each in value.split(",") if each]
    return value


def _defaults(section: str) -> dict[str, Any]:
    kind = SECTIONS.get(section)
    return {field.name: field.default for field in msgspec.structs.fields(kind)} if kind is not None else {}
