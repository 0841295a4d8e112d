"""Whether the MQTT broker of the configuration answers, takes us, and brings messages back as fast as it could.

Rule: `judge` is pure; `check_broker` asks, through `measure`, which a test may replace.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace

from edge.config.node import own_node_name
from edge.config.sections import Mqtt
from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.round_trips import Trips, measure, own_client_id
from edge.frontends.mqtt.link_settings import link_settings
from edge.mqtt.events import Lost, Refused
from edge.mqtt.probe import NAGLE_S
from edge.mqtt.settings import LinkSettings, port_of
from edge.mqtt.topics import Tree

CONNECT_S = 5.0

Measure = Callable[[LinkSettings, str], Trips]


def check_broker(section: Mqtt, measured: Measure = measure) -> Finding:
    where = f"{section.host}:{port_of(section.port, tls=section.tls)}"
    try:
        settings = replace(link_settings(section, own_client_id()), connect_s=CONNECT_S)
        tree = Tree(section.prefix, section.node or own_node_name())
        return judge(where, measured(settings, f"{tree.base}/doctor"))
    except Exception as error:
        found = _why(where, error)
        if found is None:
            raise
        return found


def judge(where: str, trips: Trips) -> Finding:
    text = f"{where}, MQTT {trips.protocol}: connected in {trips.connect_s * 1000:.0f} ms"
    if trips.kept:
        return ok("broker", f"{text}; the round trip was not measured: {trips.kept}")
    best, acked = trips.median_s(0), trips.median_s(1)
    text += f"; a round trip takes {best * 1000:.1f} ms with QoS 0, {acked * 1000:.1f} ms with QoS 1"
    if acked - best >= NAGLE_S:
        return warn(
            "broker",
            f"{text}: the broker waits for delayed acknowledgements",
            "in mosquitto.conf: set_tcp_nodelay true",
        )
    return ok("broker", text)


def _why(where: str, error: Exception) -> Finding | None:
    """What kept us from it; None for what is no matter of the broker's."""
    match error:
        case Refused():
            return fail("broker", f"{where}: {error}", "see mqtt.username, mqtt.password_file and the broker's log")
        case Lost():
            return fail("broker", f"{where}: the connection ended: {error}", "see the broker's log")
        case ssl.SSLError():
            said = getattr(error, "verify_message", "") or error.reason or str(error)
            return fail("broker", f"{where}: TLS: {said}", "see mqtt.tls, mqtt.ca_file and the broker's certificate")
        case TimeoutError():
            return fail(
                "broker",
                f"{where}: no answer within {CONNECT_S:g} s",
                "is that an MQTT broker, and does a firewall let it through?",
            )
        case OSError():
            said = error.strerror or str(error)
            name = f"{error.filename}: " if error.filename else ""
            return fail("broker", f"{where}: {name}{said}", "is the broker running, and mqtt.host right?")
        case ValueError():
            return fail("broker", f"{where}: {error}", "see [mqtt] in the configuration")
    return None
