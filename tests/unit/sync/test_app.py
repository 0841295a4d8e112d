"""What the agent, as it is put together for a device, says of itself in its reports."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path

from sync.agent.limits import UpdateLimits
from sync.app import assemble
from tests.unit.sync.doctor.device import device


async def test_a_report_says_which_programs_run_and_what_the_last_update_alone_took(tmp_path: Path) -> None:
    async with device(tmp_path) as made:
        assembled = await asyncio.to_thread(assemble, made.config, limits=UpdateLimits(watch_s=0.01))
        try:
            await assembled.start()
            report = assembled.report()
            assert report.agent == version("edge-serving")
            assert report.edge == made.server.version, "also where nothing was updated since the start"
            for number, weights in ((2, b"weights of version 2"), (3, b"weights 3")):
                await made.release(number, weights)
                await made.roll_out(number)
                assert await assembled.agent.once(within_s=30)
                last = assembled.report().last
                assert (last.bytes_full, last.bytes_delta, last.bytes_peer) == (len(weights), 0, 0)
        finally:
            await assembled.close()


async def test_a_server_that_does_not_answer_keeps_no_agent_from_starting_and_has_no_version(tmp_path: Path) -> None:
    async with device(tmp_path) as made:
        made.settings["paths.admin_uds"] = str(tmp_path / "nobody.sock")
        assembled = await asyncio.to_thread(assemble, made.config)
        try:
            await assembled.start()
            assert assembled.report().edge == ""
        finally:
            await assembled.close()
