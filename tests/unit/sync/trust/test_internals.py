"""That what is private in tuf is what this package takes it for: to be looked at when tuf is renewed."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

import pytest
from tuf.api.metadata import Root, Targets

from sync.domain.digests import digest_of
from sync.domain.errors import TrustError
from sync.trust import internals
from sync.trust.floor import MAX_TIME_S
from tests.unit.sync.trust.world import ROLLOUT, START, World, reads


def test_the_internals_that_were_read_are_those_that_are_installed() -> None:
    assert version("tuf") == internals.TUF_VERSION, "read ngclient again, then say so in sync/trust/internals.py"


async def test_what_expiry_is_judged_by_is_what_is_set(world: World) -> None:
    client, _ = world.device()
    await client.refresh()
    updater = client._updater
    assert updater is not None
    assert updater._trusted_set.reference_time == START
    for seconds, year in ((0.0, 1970), (-5.0, 1970), (946_684_800.0, 2000), (1e300, 9999)):
        internals.set_reference_time(updater, seconds)
        assert updater._trusted_set.reference_time.year == year
    assert datetime.fromtimestamp(MAX_TIME_S, UTC).year == 9999


async def test_expiry_is_judged_by_it_for_every_role(world: World) -> None:
    """ngclient would judge by its own clock, which is years ahead of this repository or behind it, were it not set."""
    client, _ = world.device()
    assert await reads(client) == b"rollout 1"
    world.later(days=3650)
    with pytest.raises(TrustError, match="expired"):
        await client.refresh()


async def test_every_role_that_was_verified_is_seen(world: World) -> None:
    client, _ = world.device()
    await reads(client)
    updater = client._updater
    assert updater is not None
    assert [signed.type for signed in internals.verified(updater)] == [
        "root", "timestamp", "snapshot", "targets", "targets"
    ]  # fmt: skip
    assert isinstance(next(internals.verified(updater)), Root)
    assert internals.names_by_content(updater)
    seen = internals.seen_by(updater, provisioned=digest_of(world.root), now=5.0)
    assert (seen.time, seen.root) == (5.0, 1)
    assert {name: dict(family.versions) for name, family in seen.families.items()} == {
        "timestamp": {"timestamp": 3},
        "snapshot": {"snapshot": 3},
        "targets": {"targets": 1},
        "releases": {"releases": 2},
        "rollouts": {"rollouts": 2},
        "deltas": {"deltas": 1},
    }
    root = updater._trusted_set.root
    assert seen.families["timestamp"].keys == tuple(root.roles["timestamp"].keyids)
    assert len({family.keys for family in seen.families.values()}) == 6
    rollouts = updater._trusted_set["rollouts"]
    assert isinstance(rollouts, Targets)
    assert ROLLOUT in rollouts.targets
