"""One message to a broker, of which is known whether it has it."""

from __future__ import annotations

import asyncio

from edge.mqtt.link import Link
from edge.mqtt.settings import LinkSettings
from sync.domain.errors import Refused, Unreachable


async def say(settings: LinkSettings, topic: str, payload: bytes, *, within_s: float) -> None:
    """Kept by the broker for whoever comes later. Returns when the broker has it. Raises Unreachable, Refused."""
    where = f"mqtt {settings.host}:{settings.port}"
    taken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ended(why: str, for_ever: bool) -> None:
        if not taken.done():
            taken.set_result(why)

    link = Link(settings, lambda message: None)
    running = asyncio.ensure_future(link.run())
    try:
        async with asyncio.timeout(within_s):
            link.deliver(topic, payload, ended)
            if why := await taken:
                raise Refused(f"{where}: want {topic} to be taken: {why}")
            await link.close()
    except TimeoutError:
        raise Unreachable(f"{where}: does not take it within {within_s:g} s") from None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
