"""What a worker says is fit to be told, whoever wrote the worker."""

from __future__ import annotations

import msgspec
import pytest

from edge.backends.worker.messages import MAX_REASON_CHARS, Failed, Garbage, Loaded, Refused, decode

EVIL = "\x1b[31mred\n2026 INFO a line of its own\x9b\u202e" + "x" * 1_000_000


@pytest.mark.parametrize("message", [Failed("unsupported", EVIL), Refused(EVIL)])
def test_a_reason_is_one_line_that_is_cut_and_steers_no_terminal(message: Failed | Refused) -> None:
    heard = decode(msgspec.msgpack.encode(message))
    assert isinstance(heard, Failed | Refused)
    assert heard.reason.startswith("�[31mred 2026 INFO a line of its own��x")
    assert heard.reason.isprintable()
    assert len(heard.reason) == MAX_REASON_CHARS


def test_a_notice_and_a_device_steer_no_terminal() -> None:
    heard = decode(msgspec.msgpack.encode(Loaded((), EVIL, EVIL, 1)))
    assert isinstance(heard, Loaded)
    assert heard.device.isprintable()
    assert heard.notice.isprintable()


def test_what_is_quoted_of_garbage_is_cut_and_steers_no_terminal() -> None:
    assert str(Garbage("want y, got \x1b[31m\n")) == "want y, got �[31m "
    assert len(str(Garbage(EVIL))) == MAX_REASON_CHARS
