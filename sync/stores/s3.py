"""A store in a bucket of S3, or of what speaks as S3 does. `obstore` is imported with this module, and by nothing else.

Rule 1: who writes says what he expects: `If-None-Match: *` for what never changes, `If-Match` for what does. A bucket that
does not compare is found out before the first write. Rule 2: a write whose answer was lost is tried again, and what is
there then says whether it was ours. Rule 3: reads are plain HTTP at signed addresses, with its bounds and its refusals.
Rule 4: messages have a status and a code, and nothing else of what the library says. Rule 5: an object goes up in one
request: a read never sees a half, and nothing half-sent is left to pay for. Rule 6: what is there already, and is wanted again,
is put again: an object's time cannot be changed otherwise.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from yarl import URL

from sync.domain.errors import Conflict, Missing, Refused
from sync.domain.ports import Part
from sync.domain.release import check_path
from sync.stores.aws import Bucket
from sync.stores.s3_client import Failed, client_of, failures
from sync.stores.web import HttpLimits, WebReader

if TYPE_CHECKING:
    from obstore import PutMode

PROBE = "metadata/.conditional-writes"
"""An empty object that is there to see whether the bucket refuses to write it again."""
NO_TAG = '"00000000000000000000000000000000"'
PAGE = 1000


@dataclass(frozen=True, slots=True)
class S3Limits:
    """attempts: at one write, with `pause_s` and its doubles between them. signed_s: how long an address holds.

    A write may take as long as a small read, and besides what its bytes take at min_rate_Bps, bytes a second. object_bytes:
    of one object, at most what S3 takes in one request; tagged_bytes: of one that changes. listed: objects of one listing.
    """

    http: HttpLimits = field(default_factory=HttpLimits)
    attempts: int = 4
    pause_s: float = 0.5
    signed_s: float = 900.0
    min_rate_Bps: float = 50_000.0
    object_bytes: int = 5 << 30
    tagged_bytes: int = 5_000_000
    listed: int = 5_000_000


class S3Store:
    """limits: of reads, and of writes."""

    def __init__(self, bucket: Bucket, *, limits: S3Limits | None = None) -> None:
        self._bucket, self._limits = bucket, limits or S3Limits()
        http = self._limits.http
        # What may be tried again without a thought, and what only this module can tell whether it was done.
        self._client = client_of(bucket, connect_s=http.connect_s, total_s=http.total_s, retries=3)
        self._writer = client_of(bucket, connect_s=http.connect_s, total_s=None, retries=0)
        self._reader = WebReader(bucket.name, self._address, held_by="If-Match", ca_file=bucket.ca_file, limits=http)
        self._proving = asyncio.Lock()
        self._compares = False

    @property
    def name(self) -> str:
        return self._bucket.name

    async def close(self) -> None:
        await self._reader.close()

    async def get(self, path: str, *, max_bytes: int) -> bytes:
        """Raises Missing, Unreachable, Refused."""
        return (await self._reader.whole(path, max_bytes=max_bytes))[0]

    async def get_part(self, path: str, *, start: int, etag: str) -> Part:
        """Raises Missing, Unreachable, Refused."""
        return await self._reader.part(path, start=start, etag=etag)

    async def tagged(self, path: str) -> tuple[bytes, str] | None:
        """Raises Unreachable, Refused."""
        try:
            data, tag = await self._reader.whole(path, max_bytes=self._limits.tagged_bytes)
        except Missing:
            return None
        if not tag:
            raise Refused(f"{self.name}/{path}: want an ETag, got none")
        return data, tag

    async def create(self, path: str, data: bytes | Path) -> bool:
        """Raises Unreachable, Refused."""
        content = await self._content(path, data)
        for _ in range(self._limits.attempts):
            if await self._write(path, content, "create") is not None:
                return True
            if await self._renewed(path, content):
                return False
        return False  # others write it all the time

    async def swap(self, path: str, data: bytes, *, was: str | None) -> str:
        """Raises Conflict, Unreachable, Refused."""
        self._bound(path, len(data))
        tag = await self._write(path, data, "create" if was is None else {"e_tag": was})
        if tag is None:
            raise Conflict(f"{self.name}: somebody else has written {path} meanwhile; nothing was changed")
        return tag

    async def walk(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Raises Unreachable, Refused."""
        below = self._key(prefix.strip("/")) if prefix.strip("/") else None
        listed = 0
        pages = obstore.list(self._client, below, chunk_size=PAGE)
        while True:
            with failures(f"{self.name}/{prefix}", told=True):
                async with asyncio.timeout(self._limits.http.total_s):
                    page = await anext(pages, None)
            if page is None:
                return
            for each in page:
                listed += 1
                if listed > self._limits.listed:
                    raise Refused(f"{self.name}/{prefix}: want at most {self._limits.listed} objects, got more")
                if below is not None and not each["path"].startswith(f"{below}/"):
                    raise Refused(f"{self.name}/{prefix}: listed an object that is not below it")
                if each["path"] != PROBE:
                    yield each["path"], each["size"], each["last_modified"].timestamp()

    async def delete(self, path: str) -> None:
        """Raises Unreachable, Refused."""
        key = self._key(path)
        try:
            with failures(f"{self.name}/{path}", told=True):
                async with asyncio.timeout(self._limits.http.total_s):
                    await obstore.delete_async(self._client, key)
        except Missing:
            return

    async def _address(self, path: str) -> URL:
        """Where a read is asked for: signed, for whoever shows it, for a while."""
        key = self._key(path)
        with failures(f"{self.name}: signing with the bucket's keys", told=True):
            async with asyncio.timeout(self._limits.http.total_s):
                url = await obstore.sign_async(self._client, "GET", key, timedelta(seconds=self._limits.signed_s))
        return URL(url.partition("?")[0] if self._bucket.anonymous else url, encoded=True)

    def _key(self, path: str) -> str:
        try:
            check_path(path)
        except ValueError as error:
            raise Refused(str(error)) from None
        return path

    # -- writing

    async def _renewed(self, path: str, content: bytes) -> bool:
        """Put what is there once more, if it is this: who collects garbage goes by its time. False where it has gone meanwhile."""
        try:
            tag = await self._tag_of(path, content)
        except Missing:
            return False
        if tag is None:
            return True  # it is another's, and stays
        try:
            return await self._write(path, content, {"e_tag": tag}) is not None
        except Conflict:
            return False

    async def _write(self, path: str, content: bytes, mode: PutMode) -> str | None:
        """The object's tag; None where the bucket has another than `mode` expects, and nothing was changed."""
        key = self._key(path)
        await self._prove()
        doubtful = False
        for attempt in range(self._limits.attempts):
            if attempt:
                await asyncio.sleep(self._limits.pause_s * 2.0 ** (attempt - 1))
            try:
                return await self._put(key, content, mode)
            except Failed as failure:
                problem = failure
            if problem.compared(tag=mode != "create"):
                # It may be ours: an attempt that arrived, and whose answer did not.
                tag = await self._tag_if(path, content) if doubtful else None
                if tag is None and doubtful and mode != "create":
                    raise Conflict(
                        f"{self.name}: somebody else has written {path} meanwhile; ours may have been there before"
                    )
                return tag
            if not problem.passing:
                raise problem.told() from None
            doubtful = doubtful or problem.doubtful
        if doubtful and (tag := await self._tag_if(path, content)) is not None:
            return tag
        raise problem.told("; nobody knows whether it was written" if doubtful else "") from None

    async def _put(self, key: str, content: bytes, mode: PutMode) -> str:
        """One attempt. Raises Failed."""
        with failures(f"{self.name}/{key}"):
            async with asyncio.timeout(self._limits.http.total_s + len(content) / self._limits.min_rate_Bps):
                done = await obstore.put_async(self._writer, key, content, mode=mode, use_multipart=False)
        if not done["e_tag"]:
            raise Failed(f"{self.name}/{key}", text="no ETag")
        return done["e_tag"]

    async def _content(self, path: str, data: bytes | Path) -> bytes:
        if isinstance(data, bytes):
            self._bound(path, len(data))
            return data
        try:
            self._bound(path, (await asyncio.to_thread(data.stat)).st_size)
            return await asyncio.to_thread(data.read_bytes)
        except OSError as error:
            raise Refused(f"{data}: cannot be read: {error.strerror}") from None

    def _bound(self, path: str, size: int) -> None:
        if size > self._limits.object_bytes:
            raise Refused(f"{self.name}/{path}: want at most {self._limits.object_bytes} bytes, got {size}")

    async def _tag_if(self, path: str, content: bytes) -> str | None:
        """As `_tag_of`; None where nothing is there."""
        try:
            return await self._tag_of(path, content)
        except Missing:
            return None

    async def _tag_of(self, path: str, content: bytes) -> str | None:
        """The tag of what is there, if it is this. Raises Missing, Unreachable, Refused."""
        part = await self.get_part(path, start=0, etag="")
        got, size = hashlib.sha256(), 0
        try:
            if part.etag == f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"':
                return part.etag  # most buckets' tags; who could forge one may write what he likes
            async for chunk in part.chunks:
                got.update(chunk)
                size += len(chunk)
                if size > len(content):
                    return None
        finally:
            await part.close()
        return part.etag if got.digest() == hashlib.sha256(content).digest() else None

    async def _prove(self) -> None:
        """That the bucket compares: one that does not would let the second of two publishers destroy what the first wrote."""
        async with self._proving:
            if self._compares:
                return
            await self._is_refused("create")  # unless it was not there yet
            conditions: dict[str, PutMode] = {"If-None-Match": "create", "If-Match": {"e_tag": NO_TAG}}
            for header, mode in conditions.items():
                if not await self._is_refused(mode):
                    raise Refused(
                        f"{self.name}: writes over what is there in spite of {header}; want a bucket with conditional writes"
                    )
            self._compares = True

    async def _is_refused(self, mode: PutMode) -> bool:
        for attempt in range(self._limits.attempts):
            if attempt:
                await asyncio.sleep(self._limits.pause_s * 2.0 ** (attempt - 1))
            try:
                await self._put(PROBE, b"", mode)
                return False
            except Failed as failure:
                problem = failure
            if problem.compared(tag=mode != "create"):
                return True
            if not problem.passing:
                break
        raise problem.told() from None
