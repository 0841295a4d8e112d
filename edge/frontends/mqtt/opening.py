"""From the configuration to the front end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.config import Config
from edge.config.node import own_node_name
from edge.config.sections import Mqtt as Section
from edge.domain.ports import Catalog, Control, Predictor
from edge.frontends.http.admission import Admission
from edge.frontends.mqtt.around import Around, AroundOptions, Known
from edge.frontends.mqtt.commands import Deeds
from edge.frontends.mqtt.front import Mqtt, WatchedCatalog
from edge.frontends.mqtt.home_assistant import Node
from edge.frontends.mqtt.limits import MqttLimits
from edge.frontends.mqtt.link_settings import link_settings
from edge.frontends.mqtt.presence import OFFLINE
from edge.mqtt.settings import Will
from edge.mqtt.topics import Tree
from edge.telemetry.build import Boot
from edge.telemetry.logs import set_level
from edge.telemetry.metrics import Metrics, MqttCounts
from edge.wire.stats import stats


async def open_mqtt(
    config: Config,
    *,
    predictor: Predictor,
    admission: Admission,
    catalog: WatchedCatalog,
    metrics: Metrics,
    boot: Boot,
    url: str,
    control: Control,
    reload: Callable[[], None],
) -> Mqtt:
    """Where `mqtt.host` is set. Raises ValueError for settings that cannot be."""
    section = config.mqtt
    node = section.node or await asyncio.to_thread(own_node_name)
    tree = Tree(section.prefix, node)
    metrics.mqtt = counts = MqttCounts()
    front = Mqtt(
        link_settings(section, f"edge-{node}", Will(tree.status, OFFLINE)),
        tree=tree,
        limits=_limits(config),
        predictor=predictor,
        catalog=catalog,
        admission=admission,
        counts=counts,
        refused=metrics.refused,
        boot=boot,
        url=url,
    )
    Around(
        front,
        Node(tree, boot.version, url),
        _options(section, tree),
        _deeds(section, catalog, control, reload),
        _known(catalog, metrics, boot),
        dropped=counts.drop,
    )
    return front


def _limits(config: Config) -> MqttLimits:
    section, server = config.mqtt, config.server
    return MqttLimits(
        max_payload_bytes=section.max_payload_bytes,
        max_held_bytes=server.max_inflight_body_bytes,
        request_timeout_s=server.request_timeout_s,
        reply_allow=section.reply_allow,
        pools=section.pools,
        run_unasked=section.publish_results,
    )


def _options(section: Section, tree: Tree) -> AroundOptions:
    return AroundOptions(
        reply_allow=section.reply_allow or (tree.reply_filter,),
        groups=section.groups,
        fleet_jitter_s=section.fleet_jitter_s,
        stats_s=section.stats_s,
        publish_results=section.publish_results,
        home_assistant=section.home_assistant,
    )


def _deeds(section: Section, catalog: Catalog, control: Control, reload: Callable[[], None]) -> Deeds:
    allowed = control if section.model_control else None
    return Deeds(catalog=catalog, control=allowed, rescan=control.reload, reload=reload, set_level=set_level)


def _known(catalog: WatchedCatalog, metrics: Metrics, boot: Boot) -> Known:
    return Known(
        stats=lambda: stats(boot, catalog, metrics.snapshot()),
        models=lambda: [model.name for model in catalog.models() if model.versions],
        changed=catalog.changed,
    )
