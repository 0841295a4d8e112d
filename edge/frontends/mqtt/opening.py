"""From the configuration to the front end."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from edge.config import Config
from edge.config.sections import Mqtt as Section
from edge.domain.ports import Predictor
from edge.frontends.http.admission import Admission
from edge.frontends.mqtt.announcing import OFFLINE
from edge.frontends.mqtt.front import Mqtt, WatchedCatalog
from edge.frontends.mqtt.limits import MqttLimits
from edge.mqtt.settings import LinkSettings, Will
from edge.mqtt.topics import Tree, node_name
from edge.telemetry.build import Boot
from edge.telemetry.metrics import Metrics, MqttCounts

PACKET_OVERHEAD_BYTES = 4096
"""For topic and properties, beside the payload."""
MAX_QUEUED = 1000
MACHINE_ID = Path("/etc/machine-id")


async def open_mqtt(
    config: Config,
    *,
    predictor: Predictor,
    admission: Admission,
    catalog: WatchedCatalog,
    metrics: Metrics,
    boot: Boot,
    url: str,
) -> Mqtt:
    """Where `mqtt.host` is set. Raises ValueError for settings that cannot be."""
    section, server = config.mqtt, config.server
    node = section.node or await asyncio.to_thread(_own_name)
    tree = Tree(section.prefix, node)
    metrics.mqtt = MqttCounts()
    return Mqtt(
        link_settings(section, f"edge-{node}", Will(tree.status, OFFLINE)),
        tree=tree,
        limits=MqttLimits(
            max_payload_bytes=section.max_payload_bytes,
            max_held_bytes=server.max_inflight_body_bytes,
            request_timeout_s=server.request_timeout_s,
            reply_allow=section.reply_allow,
            pools=section.pools,
        ),
        predictor=predictor,
        catalog=catalog,
        admission=admission,
        counts=metrics.mqtt,
        refused=metrics.refused,
        boot=boot,
        url=url,
    )


def link_settings(section: Section, client_id: str, will: Will | None) -> LinkSettings:
    """Raises ValueError."""
    return LinkSettings(
        host=section.host or "",
        port=section.port or (8883 if section.tls else 1883),
        client_id=client_id,
        protocol=section.protocol,
        username=section.username,
        password_file=section.password_file,
        tls=section.tls,
        ca_file=section.ca_file,
        cert_file=section.cert_file,
        key_file=section.key_file,
        keepalive_s=section.keepalive_s,
        session_expiry_s=section.session_expiry_s,
        receive_maximum=section.max_inflight,
        max_packet_bytes=section.max_payload_bytes + PACKET_OVERHEAD_BYTES,
        will=will,
        max_queued=MAX_QUEUED,
    )


def _own_name() -> str:
    """After the host. Looks at the disk."""
    try:
        machine = MACHINE_ID.read_text()
    except (OSError, ValueError):
        machine = ""
    return node_name(socket.gethostname(), machine)
