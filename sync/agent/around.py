"""What goes on around the models and what keeps them where they are, in words for a person on the device. Pure.

Rule: reports have a line where something is to be said of them; neighbours always have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sync.agent.outbox import RefusedReports
from sync.domain.journal import Held
from sync.domain.situation import SeenBroker, SeenNeighbours, Wanted

PEERS: Mapping[str, str] = {
    "off": "off: files come from the store alone",
    "use": "use: neighbours are asked for files",
    "use_and_share": "use_and_share: neighbours are asked for files, and given them",
}
"""By what `network.peers` may be."""


def of_reports(waiting: int, refused: RefusedReports) -> Iterator[str]:
    if waiting:
        yield f"reports {waiting} wait to be sent"
    if refused.count == 1:
        yield f"reports 1 was refused for ever, and dropped: number {refused.seq}: {refused.why}"
    elif refused.count:
        yield f"reports {refused.count} were refused for ever, and dropped; the last is number {refused.seq}: {refused.why}"


def of_broker(broker: SeenBroker | None) -> Iterator[str]:
    if broker is None:
        return
    text = f"mqtt    {'connected to' if broker.connected else 'not connected to'} {broker.where}"
    if broker.garbage:
        count = "1 message was" if broker.garbage == 1 else f"{broker.garbage} messages were"
        text += f"; {count} ignored, the last: {broker.why}"
    yield text


def of_rollout(rollout: str) -> str:
    return {"": "", "pin": ", by a pin"}.get(rollout, f", by the rollout {rollout}")


def of_hold(held: Held, wanted: Wanted | None, at: str) -> str:
    """at: when it was asked for, on the clock on the wall."""
    how = "it was taken back to" if held.by == "rollback" else "it was told to stay at"
    text = f"{how} version {held.version} at {at}, by the command {held.by}"
    if wanted is not None and wanted.rollout == "pin":
        return f"{text}; the operator's pin goes before that"
    return f"{text}; it goes on by the command unpin, or where a signed pin says so"


def of_neighbours(peers: str, found: SeenNeighbours | None) -> str:
    """found: None where they are off, or the agent does not say."""
    text = f"peers   {PEERS.get(peers, peers)}"
    if found is None:
        return text if peers == "off" else f"{text}; how many there are is not known"
    banned = "none is banned" if not found.banned else f"{found.banned} banned for giving other bytes"
    return f"{text}; {found.seen or 'none'} seen, {banned}"
