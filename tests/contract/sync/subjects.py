"""Every kind of store, empty, with somebody who may write to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from sync.domain.ports import ReadStore, WriteStore
from sync.stores.aws import bucket_of
from sync.stores.condensed import CondensedReads, CondensedWrites
from sync.stores.directory import DirectoryStore
from sync.stores.http import HttpLimits, HttpStore
from sync.stores.s3 import S3Limits, S3Store
from tests.fakes.sync.bucket import Buckets
from tests.fakes.sync.store import MemoryStore

READING = ("memory", "condensed", "directory", "http", "s3")
WRITING = ("memory", "condensed", "directory", "s3")
QUICK = S3Limits(http=HttpLimits(connect_s=2.0, read_s=2.0, total_s=5.0), pause_s=0.01)


@dataclass(slots=True)
class Subject:
    """`writer`: of the same store, and the same object where the store can be written to."""

    kind: str
    reader: ReadStore
    writer: WriteStore
    path: Path
    buckets: Buckets

    def age(self, path: str, seconds: float) -> None:
        """The object was written so much earlier."""
        if isinstance(self.writer, MemoryStore):
            self.writer.times[path] -= seconds
        elif isinstance(self.writer, DirectoryStore | CondensedWrites):
            file = self.path / "store" / path
            os.utime(file, (file.stat().st_mtime - seconds,) * 2)
        else:
            bucket, _, prefix = self.writer.name.removeprefix("s3://").partition("/")
            self.buckets.age(bucket, f"{prefix}/{path}", seconds)


@asynccontextmanager
async def subject(kind: str, path: Path, buckets: Buckets) -> AsyncIterator[Subject]:
    if kind == "http":
        (path / "store").mkdir()
        async with static(path / "store") as url:
            reader = HttpStore(url, limits=QUICK.http)
            yield Subject(kind, reader, DirectoryStore(path / "store"), path, buckets)
            await reader.close()
        return
    store: WriteStore
    if kind == "memory":
        store = MemoryStore()
    elif kind == "condensed":
        directory = DirectoryStore(path / "store")
        yield Subject(kind, CondensedReads(directory), CondensedWrites(directory), path, buckets)
        return
    elif kind == "directory":
        store = DirectoryStore(path / "store")
    else:
        store = s3(buckets)
    yield Subject(kind, store, store, path, buckets)
    await store.close()


def s3(buckets: Buckets, bucket: str = "", *, limits: S3Limits = QUICK) -> S3Store:
    """bucket: "" for a fresh one."""
    url = f"s3://{bucket or buckets.fresh()}/fleet/one"
    return S3Store(bucket_of(url, buckets.environment), limits=limits)


@asynccontextmanager
async def static(directory: Path) -> AsyncIterator[str]:
    """A web server over a directory, on a free loopback port."""
    app = web.Application()
    app.router.add_static("/", directory)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
