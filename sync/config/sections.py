"""What the agent is told before it starts, key by key, with what holds where nobody says otherwise.

Rule 1: no secret is a value; there are only names of files. Rule 2: units are in the keys' names.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

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
    """`url`: where reports are posted; empty for the broker or, without one, for nowhere. `timeout_s`: for one
    to be taken; `retry_s`, doubled up to `max_retry_s`: between tries; `max_waiting`: reports that are kept.
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
