"""An aiohttp server that reads a POST and says ok: what HTTP alone costs in Python.

python -m benchmarks.hello        prints its port
"""

import asyncio

import uvloop
from aiohttp import web


async def say_ok(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response(text="ok")


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(web.Server(say_ok), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
