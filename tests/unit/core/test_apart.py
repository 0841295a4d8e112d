"""A version whose code runs in a process of its own may end by itself: the manager takes another, and tries it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge.core.blackbox import BlackBox
from edge.domain.lifecycle import State
from edge.domain.models import Artifact, ModelId, ModelOptions, Platform
from edge.domain.ports import Apart
from tests.fakes.tflite import FakeBackend, FakeModel
from tests.unit.core.test_manager import world
from tests.waiting import until


@dataclass(frozen=True)
class NoMemory:
    peak_bytes: int = 0
    model_bytes: int = 0


class ApartModel(FakeModel):
    """`break_down` is what its process's end would do."""

    break_down: Callable[[str], None] | None = None
    broken = ""

    def watch(self, broken: Callable[[str], None]) -> None:
        self.break_down = broken
        if self.broken:
            broken(self.broken)

    def memory(self) -> NoMemory:
        return NoMemory()


@dataclass
class ApartBackend(FakeBackend):
    """`stillborn`: versions that are broken when they have just been loaded."""

    stillborn: set[int] = field(default_factory=set)

    def load(self, artifact: Artifact, options: ModelOptions) -> ApartModel:
        super().load(artifact, options)
        model = ApartModel(self, artifact, options)
        if artifact.id.version in self.stillborn:
            model.broken = "it ended five times"
        self.models[-1] = model
        return model

    def break_down(self, version: int) -> None:
        model = next(each for each in self.models if each.id.version == version and not each.closed)
        assert isinstance(model, ApartModel)
        assert model.break_down is not None
        model.break_down("it ended five times")


async def test_a_broken_version_fails_with_its_reason_and_the_one_before_it_answers() -> None:
    backend = ApartBackend()
    assert isinstance(ApartModel(backend, *_nothing()), Apart)
    async with world(backend) as w:
        w.aspire(2, fallback=1)
        await w.reach(v2=State.READY)
        backend.break_down(2)
        await w.reach(v2=State.FAILED, v1=State.READY)
        assert await w.ask() == 1.0
        status = w.catalog.status("m")
        assert status is not None
        assert [each.reason for each in status.versions] == ["it ended five times", ""]
        await until(lambda: all(model.closed for model in backend.models if model.id.version == 2))


async def test_a_broken_version_is_tried_again_after_a_while() -> None:
    backend = ApartBackend()
    async with world(backend, load_retry_s=0.01) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        backend.break_down(1)
        await until(lambda: len([each for each in backend.loads if each.version == 1]) >= 2)
        await w.reach(v1=State.READY)
        assert await w.ask() == 1.0


async def test_a_version_that_broke_before_it_served_fails_too() -> None:
    backend = ApartBackend(stillborn={2})
    async with world(backend) as w:
        w.aspire(2, fallback=1)
        await w.reach(v2=State.FAILED, v1=State.READY)
        assert await w.ask() == 1.0


async def test_the_end_of_a_version_that_goes_anyway_changes_nothing() -> None:
    backend = ApartBackend()
    async with world(backend) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        old = backend.models[0]
        w.aspire(2)
        await w.reach(v2=State.READY, v1=State.UNLOADED)
        assert isinstance(old, ApartModel)
        assert old.break_down is not None
        old.break_down("was unloaded")
        assert await w.ask() == 2.0
        assert w.states() == {2: State.READY, 1: State.UNLOADED}


async def test_a_version_that_runs_elsewhere_is_not_what_the_server_may_have_died_of(tmp_path: Path) -> None:
    backend = ApartBackend(hang={})
    async with world(backend, tmp_path) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        box = (tmp_path / "running.bin").read_bytes()
        assert b'"m"' not in box
    assert not BlackBox(tmp_path / "running.bin").found


async def test_a_load_is_told_how_long_it_may_take() -> None:
    backend = ApartBackend()
    async with world(backend, load_timeout_s=7.0) as w:
        w.aspire(1)
        await w.reach(v1=State.READY)
        assert [options.max_load_s for options in backend.load_options] == [7.0]


def _nothing() -> tuple[Artifact, ModelOptions]:
    return Artifact(ModelId("m", 1), Platform.SAVEDMODEL, Path("/nowhere"), ""), ModelOptions()
