"""What an error says may come from anybody, and goes into the journal, reports and logs."""

from __future__ import annotations

import msgspec
import pytest

from sync.domain.errors import MAX_MESSAGE_CHARS, OperatorError, Refused, SyncError, TrustError, Unreachable


@pytest.mark.parametrize("kind", [Refused, TrustError, Unreachable])
def test_a_message_can_be_written_down_whatever_is_in_it(kind: type[SyncError]) -> None:
    error = kind("500 \udcff\ud800 \x1b[31m\x00\r\n2026-01-01 INFO all is well")
    assert msgspec.json.decode(msgspec.json.encode(error.message)) == str(error)
    assert error.message == "500 �� �[31m���2026-01-01 INFO all is well"


def test_a_message_is_no_longer_than_a_person_reads() -> None:
    assert len(Refused("x" * 10_000_000).message) == MAX_MESSAGE_CHARS


def test_what_else_is_wrong_stands_on_lines_of_its_own_that_nothing_in_them_can_break() -> None:
    error = OperatorError("it is wrong:", ["one", "two\nthree\x1b[2J"])
    assert error.message == str(error) == "it is wrong:\n  one\n  two�three�[2J"
    assert len(OperatorError("x", ["y" * MAX_MESSAGE_CHARS] * 9).message) == MAX_MESSAGE_CHARS
