"""Whole messages, files beside them, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from edge.backends.worker.line import MAX_FILES, Line, pair
from edge.backends.worker.messages import (
    MAX_MESSAGE_BYTES,
    Attach,
    Begin,
    Call,
    Failed,
    Garbage,
    Loaded,
    Prepared,
    Ran,
    Refused,
    Run,
    Tensor,
    decode,
    encode,
)
from edge.domain.tensors import DType
from tests.fakes.workers import DOUBLING, ECHO

Ends = tuple[Line, Line, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both lines, and the bare socket of the second."""
    ours, theirs = pair()
    bare = theirs.dup()
    other = Line(theirs)
    yield ours, other, bare
    for each in (ours, other, bare):
        each.close()


TENSOR = Tensor("x", DType.INT8, (2, 3), 64, 6)
MESSAGES = [
    Begin({"path": "/m", "tags": ["serve"], "xla": False}, 4_096),
    Prepared(1_000),
    Loaded((Call.of(DOUBLING), Call.of(ECHO)), "cpu", "a notice", 8),
    Refused("not a model"),
    Attach(),
    Run("serving_default", 1, 65_536, (TENSOR,), 70, (3, 4)),
    Ran((TENSOR,), 131_072),
    Failed("invalid_input", "no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_every_message_comes_as_it_went(ends: Ends, message: object) -> None:
    ours, theirs, _ = ends
    ours.say(message)  # type: ignore[arg-type]
    assert theirs.hear(1) == message


def test_a_signature_is_the_same_on_both_sides() -> None:
    for signature in (DOUBLING, ECHO):
        there = Call.of(signature).signature
        assert (there.name, dict(there.inputs), dict(there.outputs)) == (
            signature.name,
            dict(signature.inputs),
            dict(signature.outputs),
        )


def test_messages_that_come_in_pieces_or_together_are_told_apart(ends: Ends) -> None:
    ours, _, bare = ends
    for byte in encode(Prepared(1)) + encode(Prepared(2)):
        bare.send(bytes([byte]))
    assert [ours.hear(1), ours.hear(1)] == [Prepared(1), Prepared(2)]
    bare.sendall(encode(Prepared(3)) + encode(Prepared(4)))
    assert [ours.hear(1), ours.hear(1)] == [Prepared(3), Prepared(4)]


def test_a_message_that_is_larger_than_the_sockets_buffer_arrives_whole(ends: Ends) -> None:
    ours, theirs, _ = ends
    message = Begin({"path": "x" * 3_000_000}, 1)
    saying = threading.Thread(target=ours.say, args=(message,))
    saying.start()
    assert theirs.hear(5) == message
    saying.join()


def test_a_file_comes_with_its_message(ends: Ends) -> None:
    ours, theirs, _ = ends
    read, write = os.pipe()
    ours.say(Attach(), [write])
    os.close(write)
    assert theirs.hear(1) == Attach()
    got = theirs.take_file()
    os.write(got, b"hello")
    os.close(got)
    assert os.read(read, 9) == b"hello"
    os.close(read)
    with pytest.raises(Garbage, match="want a file"):
        theirs.take_file()


def test_more_files_than_anybody_asked_for_are_garbage(ends: Ends) -> None:
    ours, theirs, _ = ends
    for _ in range(2):
        ours.say(Attach(), [0] * MAX_FILES)
    theirs.hear(1)
    with pytest.raises(Garbage, match="files"):
        theirs.hear(1)
    assert len(theirs.files) > MAX_FILES, "closed with the line, and no sooner"


@pytest.mark.parametrize(
    "data", [b"", b"\xc0", b"\x81\xa4type\xa3Who", encode(Prepared(1))[4:-1], b"\x93" * 5_000, b"\xff" * 9]
)
def test_what_is_no_message_is_garbage(data: bytes) -> None:
    with pytest.raises(Garbage):
        decode(data)


def test_a_length_beyond_the_bound_is_garbage_before_anything_is_read_of_it(ends: Ends) -> None:
    ours, _, bare = ends
    bare.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4, "little"))
    with pytest.raises(Garbage, match=f"at most {MAX_MESSAGE_BYTES} bytes"):
        ours.hear(1)


def test_a_message_beyond_the_bound_is_not_sent(ends: Ends) -> None:
    with pytest.raises(Garbage, match="want a message of at most"):
        ends[0].say(Refused("x" * MAX_MESSAGE_BYTES))


def test_who_has_gone_is_noticed(ends: Ends) -> None:
    ours, theirs, bare = ends
    theirs.close()
    bare.close()
    with pytest.raises(EOFError):
        ours.hear(1)
    with pytest.raises(OSError, match="Broken pipe"):
        ours.say(Prepared(1))


def test_nobody_waits_longer_than_was_said_and_half_a_message_is_kept(ends: Ends) -> None:
    ours, _, bare = ends
    data = encode(Prepared(7))
    bare.sendall(data[:6])
    with pytest.raises(TimeoutError):
        ours.hear(0.01)
    bare.sendall(data[6:])
    assert ours.hear(1) == Prepared(7)
