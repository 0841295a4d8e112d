"""The bounds of an update on a device: each with a name, a unit and a default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sync.agent.nudges import NudgeLimits
from sync.config import Config


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Seconds. watch_s: between two looks at the server. swap_timeout_s: for trial, load and swap, while the server answers.

    cool_down_s: until a release is tried again that failed for its bytes' sake. retry_s: the longest that the first wait is after
    the network failed, doubled up to max_retry_s. stagger_s: within which devices begin whose common hour has come.
    unready_timeout_s: for which a version in probation, or the one that is gone back to, may not be ready. keep_s: between two
    looks at whether what is installed has rotted. deadline_s: after which a version is fetched at any hour, 0 for never.
    """

    watch_s: float = 1.0
    swap_timeout_s: float = 900.0
    cool_down_s: float = 3600.0
    retry_s: float = 15.0
    max_retry_s: float = 3600.0
    stagger_s: float = 300.0
    unready_timeout_s: float = 900.0
    keep_s: float = 86400.0
    deadline_s: float = 0.0


def update_limits(config: Config) -> UpdateLimits:
    return UpdateLimits(**{each.name: getattr(config.update, each.name) for each in fields(UpdateLimits)})


def nudge_limits(config: Config) -> NudgeLimits:
    """Polls that bring nothing are asked for about as rarely as they are made anyway."""
    every_s = config.mqtt.nudge_every_s
    return NudgeLimits(
        every_s=every_s, jitter_s=config.mqtt.fleet_jitter_s, max_every_s=max(config.poll.every_s, every_s)
    )
