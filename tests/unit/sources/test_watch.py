"""What is watched, and that watching feeds no loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from edge.config import load_config
from edge.sources.configured import watched
from edge.sources.watch import Changes


def test_directories_are_watched_and_what_a_lone_file_lies_in_is_not(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").touch()
    (tmp_path / "det").mkdir()
    flags = {
        "models.m.path": tmp_path / "m.tflite",
        "models.det.path": tmp_path / "det",
        "models.late.path": tmp_path / "late",
        "repository.path": tmp_path / "models",
    }
    config = load_config(flags=flags)
    assert set(watched(config)) == {tmp_path / "det", tmp_path / "late", tmp_path / "models"}


async def test_a_log_below_what_is_watched_does_not_feed_itself(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "server.log")
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    changes = Changes([tmp_path], poll_s=60)
    running = asyncio.create_task(changes.run())
    try:
        noticed = changes.subscribe()
        async with asyncio.timeout(10):
            while not noticed.is_set():  # until the watch is up, a change goes unnoticed
                root.info("a line")
                await asyncio.sleep(0.05)
        size = (tmp_path / "server.log").stat().st_size
        await asyncio.sleep(0.3)
        assert (tmp_path / "server.log").stat().st_size == size
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()
