"""What the agent is told before it starts: one TOML file, each key of which a flag or `EDGE_SYNC_<SECTION>__<KEY>` may override."""

from sync.config.resolve import Resolved, load_config, plain, resolve
from sync.config.sections import Config, MqttSection, NetworkSection

__all__ = ["Config", "MqttSection", "NetworkSection", "Resolved", "load_config", "plain", "resolve"]
