"""What was withdrawn is remembered: every number of it, and no other."""

from __future__ import annotations

import random

import msgspec
import pytest

from sync.domain.errors import DocumentError
from sync.domain.withdrawn import FORMAT, Span, Withdrawn, encode_withdrawn, parse_withdrawn, with_more

EMPTY = Withdrawn(FORMAT, "m")


@pytest.mark.parametrize("seed", range(5))
def test_it_holds_what_was_withdrawn_in_whatever_order_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    counters = {version: (version * 10 + chance.randrange(10), chance.randrange(90)) for version in range(60)}
    left, gone, document = list(counters), set[int](), EMPTY
    while len(left) > 9:
        more = chance.sample(left, chance.randrange(1, 9))
        left, gone = [version for version in left if version not in more], gone | {*more}
        document = with_more(document, [Span(version, version, *counters[version]) for version in more])
        assert {version for version in range(-1, 70) if version in document} == gone
        assert parse_withdrawn(encode_withdrawn(document)) == document
    for version in left:
        below, spans = [counters[each] for each in gone if each < version], document.below(version)
        assert max((span.release_counter for span in spans), default=0) == max((a for a, _ in below), default=0)
        assert max((span.min_counter for span in spans), default=0) == max((b for _, b in below), default=0)


def test_it_stays_short_however_many_go() -> None:
    document = EMPTY
    for version in range(1, 1001):
        document = with_more(document, [Span(version, version, version, version // 2)])
    assert document.spans == (Span(1, 1000, 1000, 500),)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": "edge-withdrawn/2"}, "want 'edge-withdrawn/1'"),
        ({"name": "../m"}, "want a model's name"),
        ({"spans": (Span(3, 2, 1),)}, "want them in order"),
        ({"spans": (Span(1, 3, 3), Span(3, 4, 4))}, "want them in order"),
        ({"spans": (Span(-1, 3, 3),)}, "want them in order"),
        ({"spans": (Span(1, 1 << 63, 3),)}, "want them in order"),
        ({"spans": (Span(1, 3, -1),)}, "want counters from 0"),
    ],
)
def test_a_document_that_breaks_a_bound_is_refused_whole(changes: dict[str, object], text: str) -> None:
    document = msgspec.structs.replace(EMPTY, **changes)
    with pytest.raises(DocumentError, match=text):
        parse_withdrawn(msgspec.json.encode(document))
    with pytest.raises(DocumentError, match=text):
        encode_withdrawn(document)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 9999, b'{"format":1}', b" " * ((1 << 20) + 1)])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_withdrawn(data)
