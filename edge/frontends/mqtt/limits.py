"""What the front end is told, in one piece."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttLimits:
    """`max_payload_bytes`: of one request; `max_held_bytes`: of all that are being answered. `request_timeout_s`: for a request
    without a Message Expiry of its own. `reply_allow`: filters of the topics that clients may ask to be answered at.
    `pools`: groups of servers that this one shares requests with. `max_replays`, `max_replay_bytes`: answers that are kept for
    requests that the broker delivers again. `run_unasked`: what names nobody to answer to is run, for those who listen.
    """

    max_payload_bytes: int = 4 * 1024 * 1024
    max_held_bytes: int = 256 * 1024 * 1024
    request_timeout_s: float = 30.0
    reply_allow: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    run_unasked: bool = False
    max_replays: int = 1024
    max_replay_bytes: int = 16 * 1024 * 1024
