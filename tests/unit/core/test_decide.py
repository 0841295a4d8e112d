"""Histories made at random: whatever happens, something that answers is not given up for something that does not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.decide import Load, Retire, VersionView, next_action, targets
from edge.domain.lifecycle import State
from edge.domain.models import Artifact, Aspired, ModelId, Platform, Swap

VERSIONS = [1, 2, 3]


def artifacts(*versions: int) -> dict[int, Artifact]:
    return {v: Artifact(ModelId("m", v), Platform.TFLITE, Path("/nowhere")) for v in versions}


def wish(*versions: int, fallback: int | None = None, keep: bool = False, swap: Swap = Swap.BESIDE) -> Aspired:
    return Aspired("m", versions, artifacts(*VERSIONS), fallback, keep, swap=swap)


def ready(*versions: int) -> dict[int, VersionView]:
    return {version: VersionView(State.READY) for version in versions}


@dataclass
class World:
    """Does at once what is decided; a version in `bad` fails to load."""

    bad: frozenset[int]
    views: dict[int, VersionView] = field(default_factory=dict)
    actions: int = 0

    def settle(self, aspired: Aspired) -> None:
        for _ in range(50):
            action = next_action(aspired, self.views)
            if action is None:
                return
            self.actions += 1
            before = self.answering
            match action:
                case Load(version):
                    state = State.FAILED if version in self.bad else State.READY
                    self.views[version] = VersionView(state)
                case Retire(version):
                    del self.views[version]
            if aspired.swap is Swap.BESIDE and aspired.versions and before:
                assert self.answering, "nothing answers any more"
        raise AssertionError("it never comes to rest")

    @property
    def answering(self) -> set[int]:
        return {version for version, view in self.views.items() if view.state is State.READY}


wishes = st.builds(
    lambda versions, fallback, keep, swap: wish(*sorted(versions), fallback=fallback, keep=keep, swap=swap),
    st.sets(st.sampled_from(VERSIONS), max_size=3),
    st.none() | st.sampled_from(VERSIONS),
    st.booleans(),
    st.sampled_from(Swap),
)


@given(st.lists(wishes, min_size=1, max_size=6), st.frozensets(st.sampled_from(VERSIONS)))
@settings(max_examples=500, deadline=None)
def test_any_history_comes_to_rest_and_beside_never_stops_answering(
    history: list[Aspired], bad: frozenset[int]
) -> None:
    world = World(bad)
    for aspired in history:
        world.settle(aspired)
        assert next_action(aspired, world.views) is None
        good = set(aspired.versions) - bad
        if good:
            assert good <= world.answering
        elif aspired.versions and aspired.fallback and aspired.fallback not in bad:
            assert aspired.fallback in world.answering


def test_the_old_version_goes_only_when_the_new_one_answers() -> None:
    views = ready(1)
    assert next_action(wish(2), views) == Load(2)
    views[2] = VersionView(State.LOADING)
    assert next_action(wish(2), views) is None
    views[2] = VersionView(State.READY)
    assert next_action(wish(2), views) == Retire(1)


def test_replace_unloads_first_and_waits_until_the_memory_is_free() -> None:
    replace = wish(2, swap=Swap.REPLACE)
    assert next_action(replace, ready(1)) == Retire(1)
    assert next_action(replace, {1: VersionView(State.DRAINING)}) is None
    assert next_action(replace, {1: VersionView(State.UNLOADED)}) == Load(2)


def test_a_failed_version_brings_the_fallback_and_is_not_tried_again_by_itself() -> None:
    aspired = wish(2, fallback=1)
    views = {2: VersionView(State.FAILED)}
    assert next_action(aspired, views) == Load(1)
    assert next_action(aspired, views | ready(1)) is None
    assert next_action(aspired, {2: VersionView(State.FAILED, retry=True)} | ready(1)) == Load(2)


def test_a_version_wanted_again_while_it_drains_is_loaded_once_it_has_drained() -> None:
    assert next_action(wish(1), {1: VersionView(State.UNLOADED)}) == Load(1)


def test_the_empty_wish_unloads_everything_and_an_absent_version_unloads_nothing() -> None:
    assert next_action(wish(), ready(1)) == Retire(1)
    absent = Aspired("m", (9,), artifacts(1))
    assert next_action(absent, ready(1)) is None


def test_when_the_fallback_fails_too_the_next_older_one_that_can_is_served() -> None:
    aspired = replace(wish(3), fallback=2, further=(1,))
    world = World(bad=frozenset({2, 3}))
    world.settle(aspired)
    assert world.answering == {1}
    repaired = World(bad=frozenset({3}), views=world.views | {2: VersionView(State.FAILED, retry=True)})
    repaired.settle(aspired)
    assert repaired.answering == {2}, "a nearer one, once it can"
    whole = World(bad=frozenset(), views=repaired.views | {3: VersionView(State.FAILED, retry=True)})
    whole.settle(aspired)
    assert whole.answering == {3}


def test_a_kept_fallback_comes_after_what_is_wanted() -> None:
    aspired = wish(2, fallback=1, keep=True)
    assert targets(aspired, {}) == {2}
    assert targets(aspired, ready(2)) == {1, 2}
