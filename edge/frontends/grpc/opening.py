"""From the configuration to the front end."""

from __future__ import annotations

import asyncio
import logging

from edge.config import Config
from edge.domain.ports import Control, Predictor
from edge.frontends.grpc.calls import Calls
from edge.frontends.grpc.credentials import credentials
from edge.frontends.grpc.front import Grpc
from edge.frontends.grpc.health import Health, WatchedCatalog
from edge.frontends.grpc.inference import Inference
from edge.frontends.grpc.limits import GrpcLimits
from edge.frontends.grpc.prediction import Prediction
from edge.frontends.http.admission import Admission
from edge.frontends.http.guard import Guard
from edge.telemetry.build import Boot
from edge.telemetry.metrics import Metrics
from edge.wire.proto.messages import prepare

log = logging.getLogger(__name__)


async def open_grpc(
    config: Config,
    *,
    predictor: Predictor,
    admission: Admission,
    catalog: WatchedCatalog,
    control: Control,
    metrics: Metrics,
    guard: Guard,
    boot: Boot,
) -> Grpc:
    """Listening. Raises OSError, ssl.SSLError where a socket or a certificate cannot be had."""
    await asyncio.to_thread(prepare)
    section, server = config.grpc, config.server
    limits = GrpcLimits(
        max_message_bytes=section.max_message_bytes,
        max_held_bytes=server.max_inflight_body_bytes,
        max_streams=section.max_streams,
        message_timeout_s=section.message_timeout_s,
        request_timeout_s=server.request_timeout_s,
    )
    calls = Calls(guard=guard, admission=admission, limits=limits, refused=metrics.refused)
    prediction = Prediction(calls, predictor=predictor, catalog=catalog)
    allowed = control if config.http.model_control else None
    inference = Inference(calls, predictor=predictor, catalog=catalog, control=allowed, version=boot.version)
    services = prediction.services() | inference.services()
    services |= Health(calls, catalog=catalog, services=tuple(services)).services()
    front = Grpc(calls, services)
    if section.host is not None:
        tls = None
        if section.tls_cert is not None and section.tls_key is not None:
            tls = await asyncio.to_thread(credentials, section.tls_cert, section.tls_key, section.client_ca)
        front.listen_tcp(section.host, section.port, tls)
    if section.uds is not None:
        await front.listen_unix(section.uds)
    await front.start()
    if section.host is not None:
        log.info("gRPC at %s:%d%s", section.host, front.port, " with TLS" if section.tls_cert else "")
    if section.uds is not None:
        log.info("gRPC at %s", section.uds)
    return front
