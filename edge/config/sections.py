"""The sections of the configuration, with every key.

Rule 1: a key is a field here and nowhere else; its default, its range (by name: `edge.config.kinds`) and its unit (in its own) stand beside it.
Rule 2: a section is handed only to the part of the server that it concerns. Rule 3: nothing here reads anything.
A Config is made by `edge.config.load_config`: it fills in the paths whose defaults depend on the environment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, structs

from edge.config.kinds import (
    MIB,
    AtLeastOne,
    Bytes,
    Count,
    Device,
    Group,
    HeaderName,
    Mode,
    Node,
    Port,
    Prefer,
    Prefix,
    Rows,
    Seconds,
    Share,
    SomeRows,
    SomeSeconds,
    Tolerance,
    UrlPath,
    Weight,
)
from edge.domain.models import ModelOptions, Swap
from edge.domain.policy import VersionPolicy, parse_policy

if TYPE_CHECKING:
    from edge.domain.routing import Routing


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Server(Struct, frozen=True, kw_only=True):
    """What bounds the server as a whole, and where it remembers things."""

    state_dir: Path
    drain_s: Seconds = 10.0
    request_timeout_s: SomeSeconds = 30.0
    max_inflight: AtLeastOne = 1024
    max_inflight_body_bytes: Bytes = 256 * MIB
    trial_timeout_s: SomeSeconds = 60.0
    trial_max_memory_bytes: Bytes = 1024 * MIB
    max_load_retries: Count = 5
    load_retry_s: Seconds = 60.0
    inline_run_s: Seconds = 0.0003
    alone_run_s: Seconds = 0.01
    poll_s: SomeSeconds = 1.0
    start_hold_s: Seconds = 15.0


class Http(Struct, frozen=True, kw_only=True):
    """The public HTTP front end. `host` None: no TCP port; `uds` None: no Unix socket; `port` 0: any free one."""

    host: str | None = "127.0.0.1"
    port: Port = 8501
    uds: Path | None = None
    max_body_bytes: Bytes = 64 * MIB
    max_connections: AtLeastOne = 12000
    header_timeout_s: SomeSeconds = 15.0
    body_timeout_s: SomeSeconds = 60.0
    keepalive_s: Seconds = 75.0
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    model_control: bool = False
    cors: bool = False
    access_log: bool = False
    tfserving_metrics: bool = False
    tfserving_metrics_path: UrlPath = "/monitoring/prometheus/metrics"

    @property
    def on_loopback(self) -> bool:
        """Whether there is a TCP port that only this machine can reach."""
        return is_loopback(self.host or "")


class Grpc(Struct, frozen=True, kw_only=True):
    """The gRPC front end, where `host` or `uds` is set. `port` 0: any free one. Tokens are those of [http]."""

    host: str | None = None
    port: Port = 8500
    uds: Path | None = None
    max_message_bytes: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 64 * MIB
    max_streams: AtLeastOne = 256
    message_timeout_s: SomeSeconds = 60.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None

    @property
    def wanted(self) -> bool:
        return self.host is not None or self.uds is not None


class Mqtt(Struct, frozen=True, kw_only=True):
    """The link to an MQTT broker. `host` None: none. `port` 0: 1883, with TLS 8883. `node` "": named after the host.

    `reply_allow` empty: `{prefix}/v1/_reply/#`. `ca_file` None: the system's authorities.
    """

    host: str | None = None
    port: Port = 0
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    node: Node = ""
    prefix: Prefix = "edge"
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: Annotated[int, Meta(ge=1, le=65535)] = 60
    session_expiry_s: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 600
    max_inflight: Annotated[int, Meta(ge=1, le=65535)] = 8
    max_payload_bytes: Annotated[int, Meta(ge=1, le=256 * MIB - 65536)] = 4 * MIB
    reply_allow: tuple[str, ...] = ()
    pools: tuple[Group, ...] = ()
    groups: tuple[Group, ...] = ()
    fleet_jitter_s: Seconds = 10.0
    model_control: bool = False
    stats_s: Seconds = 30.0
    publish_results: bool = False
    home_assistant: bool = False


class Model(Struct, frozen=True, kw_only=True):
    """One model. `path` is its directory of versions, or one file, which then is version 1."""

    path: Path
    policy: str = "latest:1"
    labels: Mapping[str, AtLeastOne] = MappingProxyType({})
    swap: Swap = Swap.BESIDE
    device: Device = "cpu"
    instances: Count = 0
    num_threads: AtLeastOne = 1
    dequantize: bool = False
    max_queue: Count = 256
    max_run_s: SomeSeconds = 30.0
    lane: Literal["auto", "inline", "thread"] = "auto"
    cpu_twin: Path | None = None
    max_batch_size: Rows = 0
    batch_timeout_s: Seconds = 0.0
    allowed_batch_sizes: tuple[SomeRows, ...] = ()
    pad_variable_length_inputs: bool = False
    cache_bytes: Count = 0
    prefer: Prefer = "auto"
    tags: tuple[str, ...] = ("serve",)
    inter_op_threads: Count = 0
    gpu_memory_bytes: Count = 0
    xla: bool = False
    mixed_precision: Literal["", "float16", "bfloat16"] = ""
    weights: Mapping[str, Weight] = MappingProxyType({})
    sticky_header: HeaderName = ""
    shadow: str = ""
    shadow_share: Share = 1.0
    shadow_atol: Tolerance = 0.0
    shadow_rtol: Tolerance = 0.0

    @property
    def routed(self) -> bool:
        """Whether `routing` says anything."""
        return bool(self.weights or self.shadow)

    @property
    def routing(self) -> Routing:
        """What the domain calls the weights, the shadow and what goes with them."""
        from edge.domain.routing import Routing  # for models that have any

        return Routing(
            weights=self.weights,
            sticky_header=self.sticky_header,
            shadow=self.shadow,
            shadow_share=self.shadow_share,
            shadow_atol=self.shadow_atol,
            shadow_rtol=self.shadow_rtol,
        )

    @property
    def unrouted(self) -> Model:
        """Itself without any of that: what says which versions are there."""
        return structs.replace(
            self, weights={}, sticky_header="", shadow="", shadow_share=1.0, shadow_atol=0.0, shadow_rtol=0.0
        )

    @property
    def version_policy(self) -> VersionPolicy:
        return parse_policy(self.policy)

    @property
    def options(self) -> ModelOptions:
        """What the domain calls these settings; a version's `model.toml` may override them."""
        return ModelOptions(
            device=self.device,
            instances=self.instances,
            num_threads=self.num_threads,
            dequantize=self.dequantize,
            lane=self.lane,
            max_queue=self.max_queue,
            max_run_s=self.max_run_s,
            cpu_twin=self.cpu_twin,
            max_batch_size=self.max_batch_size,
            batch_timeout_s=self.batch_timeout_s,
            allowed_batch_sizes=self.allowed_batch_sizes,
            pad_variable_length_inputs=self.pad_variable_length_inputs,
            cache_bytes=self.cache_bytes,
            tags=self.tags,
            inter_op_threads=self.inter_op_threads,
            gpu_memory_bytes=self.gpu_memory_bytes,
            xla=self.xla,
            mixed_precision=self.mixed_precision,
        )


class Repository(Struct, frozen=True, kw_only=True):
    """A directory of models: every `path`/<name>/<version>/ is served. None: only what [models] names."""

    path: Path | None = None
    prefer: Prefer = "auto"


class Admin(Struct, frozen=True, kw_only=True):
    """The socket by which the agent and a person's tools see status and ask for a reload. `uds` None: none.

    `mode` is octal; `group` "" leaves the socket to the group of the process.
    """

    uds: Path | None
    mode: Mode = "0660"
    group: str = ""


class Advertise(Struct, frozen=True, kw_only=True):
    """Whether and how the local network is told of the server. `enabled` None: where other machines can reach it, or
    `interfaces` or `addresses` say where. `node` "": the name of the host."""

    enabled: bool | None = None
    node: Node = ""
    interfaces: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ipv6: bool = False
    http: bool = False

    def wanted(self, *, on_loopback: bool) -> bool:
        """Whether a server with a TCP port should be announced. on_loopback: only this machine can reach the port."""
        if self.enabled is not None:
            return self.enabled
        return not on_loopback or bool(self.interfaces or self.addresses)


class Log(Struct, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(Struct, frozen=True, kw_only=True):
    """All of it. `models` is by name."""

    server: Server
    admin: Admin
    http: Http = Http()
    grpc: Grpc = Grpc()
    mqtt: Mqtt = Mqtt()
    repository: Repository = Repository()
    advertise: Advertise = Advertise()
    log: Log = Log()
    models: Mapping[str, Model] = MappingProxyType({})
