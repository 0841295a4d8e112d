"""Answers that are kept for requests that come again."""

from __future__ import annotations

from edge.frontends.mqtt.replays import Answer, Key, Replays
from edge.mqtt.message import NO_PROPERTIES


def key(number: int) -> Key:
    return Key("t", "r", str(number).encode(), 0)


def answer(size: int = 1, until: float = 100.0) -> Answer:
    return Answer("r", bytes(size), 1, NO_PROPERTIES, until)


def test_the_oldest_answers_go_when_there_are_too_many() -> None:
    replays = Replays(2, 1000)
    for number in range(3):
        replays.end(key(number), answer())
    assert [replays.find(key(number), 0) is not None for number in range(3)] == [False, True, True]


def test_the_oldest_answers_go_when_they_are_too_large_together() -> None:
    replays = Replays(10, 100)
    for number in range(3):
        replays.end(key(number), answer(40))
    assert [replays.find(key(number), 0) is not None for number in range(3)] == [False, True, True]
    replays.end(key(9), answer(101))
    assert replays.find(key(9), 0) is None
    assert replays.find(key(2), 0) is not None


def test_an_answer_is_kept_no_longer_than_somebody_may_wait() -> None:
    replays = Replays(10, 100)
    replays.end(key(1), answer(60, until=5.0))
    assert replays.find(key(1), 4.9) is not None
    assert replays.find(key(1), 5.0) is None
    replays.end(key(2), answer(100))
    assert replays.find(key(2), 0) is not None


def test_one_answer_in_the_place_of_another_frees_its_bytes() -> None:
    replays = Replays(10, 100)
    for _ in range(5):
        replays.end(key(1), answer(60))
    replays.end(key(2), answer(40))
    assert replays.find(key(1), 0) is not None
