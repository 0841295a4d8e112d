"""The admin socket, when what is behind it hangs, lies or is nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from sync.agent import server
from sync.agent.server import AdminSocket
from sync.domain.errors import ServerAbsent
from sync.domain.ports import ModelHealth, ServerHealth, VersionHealth

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def behind(path: Path, answer: Answer) -> AsyncIterator[AdminSocket]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path / "admin.sock")).start()
    try:
        yield AdminSocket(path / "admin.sock", timeout_s=0.3)
    finally:
        await runner.cleanup()


def saying(body: bytes, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    return answer


def counting(what: str, number: str) -> bytes:
    return b'{"boot_id":"b","models":{"m":{"versions":{"1":{"state":"ready","totals":{"%s":%s}}}}}}' % (
        what.encode(),
        number.encode(),
    )


async def hanging(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def breaking(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    answer.content_length = 100
    await answer.prepare(request)
    await answer.write(b'{"boot_id"')
    assert request.transport is not None
    request.transport.abort()
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        hanging,
        breaking,
        saying(b"", 500),
        saying(b"no JSON"),
        saying(b"{}"),
        saying(b"[" * 100_000),
        saying(b'{"boot_id":"b","models":{"m":{"versions":{"x":{"state":"ready"}}}}}'),
        saying(counting("answered", "-3")),
        saying(counting("failures", "9" * 400)),
        saying(b'{"boot_id":"' + b"b" * 10_000 + b'"}'),
    ],
    ids=[
        "hangs",
        "breaks off",
        "fails",
        "is no JSON",
        "says nothing",
        "is nested without end",
        "names no version",
        "counts below nothing",
        "counts beyond everything",
        "has a name without end",
    ],
)
async def test_a_server_that_cannot_be_asked_is_absent(tmp_path: Path, answer: Answer) -> None:
    async with behind(tmp_path, answer) as socket:
        with pytest.raises(ServerAbsent, match=r"admin\.sock"):
            await socket.health()


async def test_nobody_there_is_absent(tmp_path: Path) -> None:
    with pytest.raises(ServerAbsent, match=r"admin\.sock"):
        await AdminSocket(tmp_path / "admin.sock").health()
    await asyncio.to_thread((tmp_path / "admin.sock").write_bytes, b"")
    with pytest.raises(ServerAbsent, match=r"admin\.sock"):
        await AdminSocket(tmp_path / "admin.sock").health()


async def test_a_status_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_STATUS_BYTES", 1000)
    async with behind(tmp_path, saying(b'{"boot_id":"' + b"x" * 2000 + b'"}')) as socket:
        with pytest.raises(ServerAbsent, match="want 200"):
            await socket.health()


async def test_what_the_server_says_is_taken(tmp_path: Path) -> None:
    version = {
        "state": "ready",
        "totals": {"answered": 3, "failures": 1, "non_finite": 2, "more": 1},
        "window": {"run_p99_s": 0.5},
    }
    status = {
        "boot_id": "b",
        "version": "1.0",
        "last_exit": "clean",
        "models": {"m": {"generation": 4, "problem": "p", "versions": {"17": version}}},
    }
    async with behind(tmp_path, saying(json.dumps(status).encode())) as socket:
        health = VersionHealth("ready", "", 3, 1, 2, 0.5)
        assert await socket.health() == ServerHealth("b", "1.0", "clean", {"m": ModelHealth(4, "p", {17: health})})


async def test_what_a_server_complains_of_is_cut_to_what_a_journal_takes(tmp_path: Path) -> None:
    version = {"state": "failed", "reason": "x" * 1_000_000}
    status = {"boot_id": "b", "models": {"m": {"problem": "y" * 1_000_000, "versions": {"1": version}}}}
    async with behind(tmp_path, saying(json.dumps(status).encode())) as socket:
        model = (await socket.health()).models["m"]
    assert model.problem == "y" * server.MAX_WORDS_CHARS
    assert model.versions[1].reason == "x" * server.MAX_WORDS_CHARS


async def test_the_version_is_what_it_said_last_and_none_while_it_does_not_answer(tmp_path: Path) -> None:
    said = [b'{"boot_id":"b","version":"1.2"}', b"no JSON", b'{"boot_id":"b","version":"1.3"}']

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=said.pop(0))

    async with behind(tmp_path, answer) as socket:
        assert socket.version == ""
        await socket.health()
        assert socket.version == "1.2"
        with pytest.raises(ServerAbsent):
            await socket.health()
        assert socket.version == ""
        await socket.health()
        assert socket.version == "1.3"
    with pytest.raises(ServerAbsent):
        await socket.health()
    assert socket.version == ""
