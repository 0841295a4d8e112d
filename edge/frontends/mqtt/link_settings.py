"""From the configuration to a link's settings: those of the server, and of tools that look at its broker as it does."""

from __future__ import annotations

from edge.config.sections import Mqtt
from edge.mqtt.settings import LinkSettings, Will, port_of

PACKET_OVERHEAD_BYTES = 4096
"""For topic and properties, beside the payload."""


def link_settings(section: Mqtt, client_id: str, will: Will | None = None) -> LinkSettings:
    """Raises ValueError."""
    return LinkSettings(
        host=section.host or "",
        port=port_of(section.port, tls=section.tls),
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
    )
