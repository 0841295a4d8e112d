"""What inflated bodies may come to, over all requests."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.domain.errors import DeadlineExceeded, Overloaded
from edge.frontends.http import eager
from edge.frontends.http.admission import Admission


def admission(most: int) -> Admission:
    return Admission(
        max_inflight=8,
        max_body_bytes=most,
        max_inflated_bytes=most,
        request_timeout_s=1,
        offload=ThreadPoolExecutor(1),
    )


def test_inflated_bytes_are_bounded_over_all_requests_and_given_back() -> None:
    bounded = admission(10)
    with bounded.inflating() as one:
        one(6)
        with bounded.inflating() as other, pytest.raises(Overloaded, match="max_inflight_body_bytes"):
            other(5)
        one(4)
    with bounded.inflating() as next_one:
        next_one(10)


def test_one_that_is_refused_makes_room_for_those_under_way_at_once() -> None:
    bounded = admission(10)
    with bounded.inflating() as one, bounded.inflating() as other:
        one(5)
        other(5)
        with pytest.raises(Overloaded):
            other(1)
        one(5)


def test_a_thread_that_goes_on_after_its_request_was_given_up_is_stopped() -> None:
    bounded = admission(10)
    with bounded.inflating() as claim:
        claim(1)
    with pytest.raises(Overloaded, match="given up"):
        claim(1)
    with bounded.inflating() as other:
        other(10)


async def large(bounded: Admission, within_s: float, seconds: float) -> str:
    def work() -> str:
        time.sleep(seconds)
        return "read"

    return await bounded.read(2 << 20, asyncio.get_running_loop().time() + within_s, work)


async def test_a_large_body_may_be_read_before_its_request_has_a_task_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    # The loop calls this outside of any task.
    loop.call_soon(lambda: eager.start(large(admission(1), 10, 0.01), loop, answer.set_result))
    assert await answer == "read"


async def test_a_body_that_takes_too_long_to_read_is_given_up_at_the_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="while its body was read"):
        await large(admission(1), 0.01, 0.2)
