"""Static web servers over a directory, as an operator has them: nginx, and aiohttp's own where there is none.

Each serves on a free port of the loopback while its block lasts. packed: whether JSON goes out as gzip to who takes that.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

START_S = 10.0
MIN_PACKED_BYTES = 256

NGINX = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log stderr error;
events {{ worker_connections 64; }}
http {{
  types {{ application/json json; }}
  access_log off;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  gzip {gzip}; gzip_types application/json; gzip_min_length {least}; gzip_comp_level 6;
  server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""


@asynccontextmanager
async def nginx_server(program: str, directory: Path, *, packed: bool) -> AsyncIterator[int]:
    """The port. Raises RuntimeError where it does not start."""
    port = free_port()
    with tempfile.TemporaryDirectory() as place:
        gzip = "on" if packed else "off"
        config = Path(place) / "nginx.conf"
        config.write_text(NGINX.format(place=place, gzip=gzip, least=MIN_PACKED_BYTES, port=port, directory=directory))
        process = await asyncio.create_subprocess_exec(program, "-p", place, "-e", "stderr", "-c", str(config))
        try:
            await _answers(port, process)
            yield port
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def aiohttp_server(directory: Path, *, packed: bool) -> AsyncIterator[int]:
    """The port."""

    @web.middleware
    async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if packed and request.path.endswith(".json"):
            answer.enable_compression()
        return answer

    app = web.Application(middlewares=[compress])
    app.router.add_static("/", directory)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    """Until it takes connections. Raises RuntimeError."""
    try:
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise RuntimeError(f"the web server does not answer after {START_S:g} s") from None
    raise RuntimeError(f"the web server ended with {process.returncode}")
