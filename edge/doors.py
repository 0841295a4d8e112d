"""The front ends on their sockets, as the configuration wants them, and what they ask behind them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import Config
from edge.core.callers import Callers
from edge.core.catalog import Catalog
from edge.core.control import Controls
from edge.core.predict import Predict
from edge.core.registry import Registry
from edge.frontends.admin import Admin
from edge.frontends.http.admission import Admission
from edge.frontends.http.guard import Guard, Policy, read_tokens
from edge.frontends.http.limits import HttpLimits
from edge.frontends.http.listener import Handler, Listener
from edge.frontends.http.pages import Pages
from edge.frontends.http.site import Site
from edge.frontends.http.tls import Certificates
from edge.frontends.http.v1 import V1
from edge.frontends.http.v2 import V2
from edge.telemetry.build import Boot
from edge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edge.frontends.grpc.front import Grpc
    from edge.frontends.mqtt.front import Mqtt

log = logging.getLogger(__name__)

OFFLOAD_THREADS = 4
HTTP, UDS, ADMIN = "http", "uds", "admin"
"""The names of the sockets that systemd may hand over. Of the first two, the socket itself says which one it is."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens. `url` is empty without a TCP port."""

    url: str
    uds: Path | None
    admin: Path | None


@dataclass(frozen=True, slots=True)
class Behind:
    """What the front ends ask. `reload` is called when somebody asks for the configuration to be read again."""

    registry: Registry
    catalog: Catalog
    control: Controls
    metrics: Metrics
    reload: Callable[[], None]


class Doors:
    """Opened once and closed once. `certificates` follow their files while somebody runs their `follow`; `mqtt` is there
    where a broker is configured, and reaches it while somebody runs its `run`."""

    def __init__(
        self,
        config: Config,
        behind: Behind,
        boot: Boot,
        given: Mapping[str, Sequence[socket.socket]] | None = None,
        *,
        hold: bool = False,
    ) -> None:
        """given: sockets that listen already, by name, each in the place of what the configuration would bind. hold: nobody
        can connect to the TCP port before `accept`."""
        self._config, self._behind, self._boot, self._hold = config, behind, boot, hold
        self._given = dict(given or {})
        front = [each for name in (HTTP, UDS) for each in self._given.get(name, ())]
        self._tcp = [each for each in front if each.family != socket.AF_UNIX]
        self._unix = [each for each in front if each.family == socket.AF_UNIX]
        # One of each: what bounds the server bounds all its doors together.
        self._admission, self._predictor = _admission_and_predictor(config, behind.registry)
        self._listeners: list[Listener] = []
        self._guard: Guard
        self.certificates: Certificates | None = None
        self.mqtt: Mqtt | None = None
        self._grpc: Grpc | None = None

    async def open(self) -> Addresses:
        """Raises OSError, ValueError, ssl.SSLError where a socket, a token file or a certificate cannot be had."""
        config, http = self._config, self._config.http
        limits = HttpLimits(
            max_body_bytes=http.max_body_bytes,
            max_connections=http.max_connections,
            max_inflight_body_bytes=config.server.max_inflight_body_bytes,
            header_timeout_s=http.header_timeout_s,
            body_timeout_s=http.body_timeout_s,
            keepalive_s=http.keepalive_s,
        )
        on_loopback = any(map(_on_loopback, self._tcp)) if self._tcp else http.on_loopback
        policy = Policy(
            check_host=on_loopback or bool(http.allowed_hosts), allowed_hosts=http.allowed_hosts, cors=http.cors
        )
        self._guard = Guard(policy, await _tokens(http.token_file))
        pages = await asyncio.to_thread(
            Pages,
            self._boot,
            self._behind.catalog,
            self._behind.metrics,
            tfserving_metrics=http.tfserving_metrics_path if http.tfserving_metrics else "",
        )
        for name in self._given.keys() - {HTTP, UDS, ADMIN}:
            log.warning("socket from systemd %.80r: want the name %s, %s or %s; passed over", name, HTTP, UDS, ADMIN)
        url = await self._open_tcp(pages, limits)
        uds = await self._open_unix(pages, limits)
        if self._config.grpc.wanted:
            await self._open_grpc()
        if self._config.mqtt.host is not None:
            await self._open_mqtt(url)
        return Addresses(url, uds, await self._open_admin(limits))

    async def accept(self) -> None:
        """What waits at the sockets that were given, from now on."""
        for listener in self._listeners:
            await listener.accept()

    async def reload_tokens(self, file: Path | None) -> None:
        """Raises what a bad file raises; the old ones hold then."""
        self._guard.tokens = await _tokens(file)

    async def close(self, drain_s: float) -> None:
        """Nothing more is accepted, what runs may finish within `drain_s` seconds."""
        closing = [listener.close(drain_s) for listener in self._listeners]
        if self.mqtt is not None:
            closing.append(self.mqtt.close(drain_s))
        if self._grpc is not None:
            closing.append(self._grpc.close(drain_s))
        await asyncio.gather(*closing)

    async def _open_grpc(self) -> None:
        """Imported here: a server without it pays nothing for it."""
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its library writes to stderr, past the log
        try:
            from edge.frontends.grpc.opening import open_grpc
        except ImportError as error:
            raise ValueError(f"[grpc] needs grpcio and protobuf: install edge-serving[grpc] ({error})") from None
        self._grpc = await open_grpc(
            self._config,
            predictor=self._predictor,
            admission=self._admission,
            catalog=self._behind.catalog,
            control=self._behind.control,
            metrics=self._behind.metrics,
            guard=self._guard,
            boot=self._boot,
        )

    async def _open_mqtt(self, url: str) -> None:
        """Imported here: a server without a broker pays nothing for it. The broker need not be there."""
        from edge.frontends.mqtt.opening import open_mqtt

        self.mqtt = await open_mqtt(
            self._config,
            predictor=self._predictor,
            admission=self._admission,
            catalog=self._behind.catalog,
            metrics=self._behind.metrics,
            boot=self._boot,
            url=url,
            control=self._behind.control,
            reload=self._behind.reload,
        )

    async def _open_tcp(self, pages: Pages, limits: HttpLimits) -> str:
        """The URL, or ""."""
        http = self._config.http
        if http.host is None and not self._tcp:
            return ""
        if http.tls_cert is not None:
            self.certificates = await asyncio.to_thread(Certificates, http.tls_cert, http.tls_key)
        tls = self.certificates.context if self.certificates else None
        listener = self._listener(self._site(pages, local=False), limits)
        if self._tcp:
            for each in self._tcp:
                await listener.adopt(each, tls)
                log.info("socket from systemd: %s:%d", *each.getsockname()[:2])
                if not _on_loopback(each) and http.token_file is None:
                    log.warning("the socket can be reached from other machines and there is no http.token_file")
            host, port = self._tcp[0].getsockname()[:2]
        else:
            assert http.host is not None
            host, port = http.host, await listener.listen_tcp(http.host, http.port, tls, hold=self._hold)
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{port}"

    async def _open_unix(self, pages: Pages, limits: HttpLimits) -> Path | None:
        uds = self._config.http.uds
        if self._unix:
            listener = self._listener(self._site(pages, local=True), limits)
            for each in self._unix:
                await listener.adopt(each)
                log.info("socket from systemd: %s", _path(each))
            return _path(self._unix[0])
        if uds is not None:
            await self._listener(self._site(pages, local=True), limits).listen_unix(uds, mode=0o660)
        return uds

    async def _open_admin(self, limits: HttpLimits) -> Path | None:
        """Never fatal by itself: two servers on one device may both want it, and models can do without."""
        settings = self._config.admin
        given = [each for each in self._given.get(ADMIN, ()) if each.family == socket.AF_UNIX]
        if settings.uds is None and not given:
            return None
        admin = Admin(self._boot, self._behind.catalog, self._behind.control, self._behind.reload)
        if given:
            listener = self._listener(admin, limits)
            for each in given:
                await listener.adopt(each)
                log.info("admin socket from systemd: %s", _path(each))
            await listener.accept()  # who watches wants to see the start
            return _path(given[0])
        assert settings.uds is not None
        try:
            await self._listener(admin, limits).listen_unix(settings.uds, mode=int(settings.mode, 8))
            if settings.group:
                import shutil

                await asyncio.to_thread(shutil.chown, settings.uds, group=settings.group)
        except (OSError, LookupError) as error:
            log.warning("no admin socket: %s", error)
            return None
        return settings.uds

    def _listener(self, handler: Handler, limits: HttpLimits) -> Listener:
        listener = Listener(handler, limits, refused=self._behind.metrics.refused)
        self._listeners.append(listener)
        return listener

    def _site(self, pages: Pages, *, local: bool) -> Site:
        http = self._config.http
        return Site(
            guard=self._guard,
            v1=V1(
                predictor=self._predictor,
                catalog=self._behind.catalog,
                admission=self._admission,
                refused=self._behind.metrics.refused,
                cors=http.cors,
            ),
            v2=V2(
                predictor=self._predictor,
                catalog=self._behind.catalog,
                control=self._behind.control if http.model_control else None,
                admission=self._admission,
                refused=self._behind.metrics.refused,
                version=self._boot.version,
            ),
            pages=pages,
            refused=self._behind.metrics.refused,
            now=asyncio.get_running_loop().time,
            local=local,
            access_log=http.access_log,
        )


def _admission_and_predictor(config: Config, registry: Registry) -> tuple[Admission, Predict]:
    offload = ThreadPoolExecutor(OFFLOAD_THREADS, thread_name_prefix="offload")
    admission = Admission(
        max_inflight=config.server.max_inflight,
        max_body_bytes=config.http.max_body_bytes,
        max_inflated_bytes=config.server.max_inflight_body_bytes,
        request_timeout_s=config.server.request_timeout_s,
        offload=offload,
    )
    return admission, Predict(registry, offload=offload, callers=Callers())


def _on_loopback(given: socket.socket) -> bool:
    return ip_address(given.getsockname()[0].partition("%")[0]).is_loopback


def _path(given: socket.socket) -> Path:
    """Of its file; of one in the abstract namespace, its name behind an @."""
    name = given.getsockname()
    return Path("@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name)


async def _tokens(file: Path | None) -> list[bytes] | None:
    return await asyncio.to_thread(read_tokens, file) if file else None
