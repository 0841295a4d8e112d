from __future__ import annotations

import threading
from collections.abc import Callable

from edge.core.handoff import Handoff, Worker
from tests.waiting import until_blocking

SOON_S = 10.0


def work(
    handoff: Handoff[int], done: list[tuple[str, int]], name: str, hold: Callable[[int], object]
) -> threading.Thread:
    def run() -> None:
        worker = Worker[int]()
        while (job := handoff.take(worker)) is not None:
            hold(job)
            done.append((name, job))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def end(handoff: Handoff[int], *threads: threading.Thread) -> None:
    handoff.close()
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()


def test_jobs_are_taken_in_the_order_of_their_arrival_and_all_of_them_before_the_end() -> None:
    handoff: Handoff[int] = Handoff()
    done: list[tuple[str, int]] = []
    gate = threading.Event()
    thread = work(handoff, done, "a", lambda _: gate.wait(SOON_S))
    for job in range(5):
        handoff.put(job)
    gate.set()
    end(handoff, thread)
    assert done == [("a", job) for job in range(5)]


def test_of_several_idle_workers_the_one_that_was_busy_last_is_woken() -> None:
    handoff: Handoff[int] = Handoff()
    done: list[tuple[str, int]] = []
    threads = [work(handoff, done, name, lambda _: None) for name in ("a", "b")]
    until_blocking(lambda: len(handoff._idle) == 2)
    for job in range(20):
        handoff.put(job)
        until_blocking(lambda: len(handoff._idle) == 2)
    end(handoff, *threads)
    assert len({name for name, _ in done}) == 1
    assert [job for _, job in done] == list(range(20))


def test_what_is_withdrawn_before_it_began_is_never_done() -> None:
    handoff: Handoff[int] = Handoff()
    done: list[tuple[str, int]] = []
    for job in range(3):
        handoff.put(job)
    handoff.withdraw(1)
    handoff.withdraw(7)
    assert handoff.depth == 2
    end(handoff, work(handoff, done, "a", lambda _: None))
    assert [job for _, job in done] == [0, 2]


def test_many_workers_and_producers_lose_nothing_and_do_nothing_twice() -> None:
    handoff: Handoff[int] = Handoff()
    done: list[tuple[str, int]] = []
    workers = [work(handoff, done, str(n), lambda _: None) for n in range(4)]

    def produce(first: int) -> None:
        for job in range(first, first + 2000):
            handoff.put(job)

    producers = [threading.Thread(target=produce, args=(first,)) for first in range(0, 8000, 2000)]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join(SOON_S)
    end(handoff, *workers)
    assert sorted(job for _, job in done) == list(range(8000))


def test_a_borrowed_worker_gets_no_job_and_the_next_one_when_it_is_given_back() -> None:
    handoff: Handoff[int] = Handoff()
    done: list[tuple[str, int]] = []
    thread = work(handoff, done, "a", lambda _: None)
    until_blocking(lambda: len(handoff._idle) == 1)
    worker = handoff.borrow()
    assert worker is not None
    assert handoff.borrow() is None
    handoff.put(1)
    assert (handoff.depth, done) == (1, [])
    handoff.give_back(worker)
    until_blocking(lambda: done == [("a", 1)])
    end(handoff, thread)


def test_a_worker_that_is_given_back_after_the_end_ends_too() -> None:
    handoff: Handoff[int] = Handoff()
    thread = work(handoff, [], "a", lambda _: None)
    until_blocking(lambda: len(handoff._idle) == 1)
    worker = handoff.borrow()
    assert worker is not None
    handoff.close()
    handoff.give_back(worker)
    end(handoff, thread)
