from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from edge.config import load_config
from edge.sources import watch
from edge.sources.configured import watched
from edge.sources.watch import Changes
from edge.telemetry import logs

FAR_S, SOON_S, QUIET_S = 60.0, 10.0, 0.3


@asynccontextmanager
async def following(*paths: Path) -> AsyncIterator[Changes]:
    """Watching has begun; from here on only the kernel's word can wake anybody."""
    changes = Changes(paths, poll_s=0.05)
    task = asyncio.create_task(changes.run())
    try:
        yield changes
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def heard(changes: Changes, act: Callable[[int], object]) -> None:
    """`act` is repeated, each time with another number, until a change is heard: the watcher takes a moment to begin."""
    event = changes.subscribe()
    for turn in range(200):
        act(turn)
        try:
            async with asyncio.timeout(SOON_S / 200):
                await event.wait()
        except TimeoutError:
            continue
        return
    pytest.fail("nothing was heard")


async def test_a_change_anywhere_below_a_directory_is_heard(tmp_path: Path) -> None:
    deep = tmp_path / "model" / "1"
    deep.mkdir(parents=True)
    async with following(tmp_path) as changes:
        await heard(changes, lambda turn: (deep / str(turn)).touch())


def test_directories_are_watched_and_what_a_lone_file_lies_in_is_not(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").touch()
    (tmp_path / "det").mkdir()
    flags = {
        "models.m.path": tmp_path / "m.tflite",
        "models.later.path": tmp_path / "later.tflite",
        "models.det.path": tmp_path / "det",
        "models.late.path": tmp_path / "late",
        "repository.path": tmp_path / "models",
    }
    config = load_config(flags=flags)
    assert set(watched(config)) == {tmp_path / "det", tmp_path / "late", tmp_path / "models"}


async def test_a_log_below_what_is_watched_does_not_feed_itself(tmp_path: Path) -> None:
    with (tmp_path / "server.log").open("w") as file:
        handler = logs.set_up("info", stream=file)
        try:
            async with following(tmp_path) as changes:
                await heard(changes, lambda turn: logging.getLogger().info("line %d", turn))
                await asyncio.sleep(QUIET_S)
                size = (await asyncio.to_thread((tmp_path / "server.log").stat)).st_size
                await asyncio.sleep(QUIET_S)
                assert (await asyncio.to_thread((tmp_path / "server.log").stat)).st_size == size
        finally:
            logging.getLogger().removeHandler(handler)


async def test_a_directory_that_appears_later_is_watched_and_so_is_the_one_that_replaces_it(tmp_path: Path) -> None:
    late, here = tmp_path / "late", tmp_path / "here"
    here.mkdir()
    async with following(late, here) as changes:
        await heard(changes, lambda turn: (here / str(turn)).touch())
        late.mkdir()
        await heard(changes, lambda turn: (late / str(turn)).touch())
        late.rename(tmp_path / "old")
        late.mkdir()
        await heard(changes, lambda turn: (late / str(turn)).touch())


async def test_what_is_followed_instead_is_heard(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with following(one) as changes:
        await heard(changes, lambda turn: (one / str(turn)).touch())
        changes.follow([two])
        await heard(changes, lambda turn: (two / str(turn)).touch())


async def test_where_the_kernel_gives_no_word_it_is_said_once_and_polling_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoneLeft:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __aiter__(self) -> NoneLeft:
            return self

        async def __anext__(self) -> None:
            raise OSError("no inotify watches left")

    monkeypatch.setattr("watchfiles.awatch", NoneLeft)
    with caplog.at_level(logging.WARNING):
        async with following(tmp_path) as changes:
            for _ in range(10):
                await changes.wait(changes.subscribe())
    assert caplog.text.count("no inotify watches left") == 1


async def test_a_directory_with_too_many_files_is_only_looked_at_and_the_others_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vast, small = tmp_path / "vast", tmp_path / "small"
    for directory in (vast / "1", small / "1"):
        directory.mkdir(parents=True)
    for number in range(100):
        (vast / "1" / str(number)).touch()
    (small / "1" / "up").symlink_to(small)
    monkeypatch.setattr(watch, "MAX_FILES", 50)
    monkeypatch.setattr(watch, "MAX_COUNTED", 500)
    watched: list[object] = []
    real = watchfiles.awatch

    def noted(*directories: Path, **options: Any) -> Any:
        watched.append(directories)
        return real(*directories, **options)

    monkeypatch.setattr(watchfiles, "awatch", noted)
    async with following(vast, small) as changes:
        await heard(changes, lambda turn: (small / "1" / f"{turn % 5}").touch())
        assert watched == [(small,)]
    assert caplog.text.count(f"no notification for {vast} (want at most 50 files)") == 1


def test_no_more_files_are_counted_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    real = os.scandir

    def noted(path: str) -> Any:
        looks.append(path)
        return real(path)

    directories = [tmp_path / str(number) for number in range(20)]
    for directory in directories:
        (directory / "1" / "2").mkdir(parents=True)
    monkeypatch.setattr(watch, "MAX_FILES", 1)
    monkeypatch.setattr(watch, "MAX_COUNTED", 5)
    monkeypatch.setattr(os, "scandir", noted)
    assert watch._watchable(directories, 1.0) == []
    assert len(looks) < 30, "one look at each that is passed over, and no further one"


async def test_a_file_whose_name_is_not_utf_8_ends_nothing(tmp_path: Path) -> None:
    async with following(tmp_path) as changes:
        await heard(changes, lambda turn: (tmp_path / str(turn)).touch())
        for turn in range(10):
            (tmp_path / os.fsdecode(b"%d\xff" % turn)).touch()
            await asyncio.sleep(QUIET_S / 10)
        await heard(changes, lambda turn: changes.notify())


async def test_a_wait_ends_by_itself_after_the_time_to_look_again(tmp_path: Path) -> None:
    changes = Changes([tmp_path], poll_s=0.01)
    await asyncio.wait_for(changes.wait(changes.subscribe()), SOON_S)
    far = Changes([tmp_path], poll_s=FAR_S)
    await asyncio.wait_for(far.wait(far.subscribe(), at_most_s=0.01), SOON_S)
