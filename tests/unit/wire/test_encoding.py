import gzip
import time
import tracemalloc
import zlib
from functools import partial

import pytest

from edge.domain.errors import TooLarge
from edge.wire.encoding import MIN_COMPRESSED_BYTES, CorruptBody, compress, inflate, negotiate

BODY = b'{"instances": [1, 2, 3]}' * 50

zipped = partial(gzip.compress, mtime=0)
"""The same bytes each time: tests are named by them."""


def _raw(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        (zipped(BODY), "gzip"), (zipped(BODY), "X-GZIP, identity"), (zlib.compress(BODY), "deflate"),
        (_raw(BODY), "deflate"), (zipped(BODY[:600]) + zipped(BODY[600:]), "gzip"),
        (zipped(BODY) + b"\0\0", "gzip"), (BODY, ""), (BODY, "identity"), (BODY, "br"),
    ],
)  # fmt: skip
def test_a_body_comes_out_as_it_went_in(sent: bytes, encoding: str) -> None:
    assert inflate(sent, encoding, len(BODY)) == BODY


@pytest.mark.parametrize("sent", [b"", b"\x1f\x8b", BODY, zipped(BODY)[:-1], zipped(BODY)[:-9] + b"\0" * 9])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_in_its_encoding_is_corrupt(sent: bytes, encoding: str) -> None:
    with pytest.raises(CorruptBody):
        inflate(sent, encoding, 10_000)


def test_a_bomb_costs_no_more_than_the_bound() -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        inflate(bomb, "gzip", 1 << 20)
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b"\0" * (1 << 20)) * 2, "gzip", 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_many_small_members_cost_no_more_time_than_they_have_bytes() -> None:
    members = gzip.compress(b"x")
    assert inflate(members * 4_000, "gzip", 4_000) == b"x" * 4_000
    start = time.monotonic()
    with pytest.raises(TooLarge, match="want at most 4096 gzip members"):
        inflate(members * 1_000_000, "gzip", 4 << 20)
    assert time.monotonic() - start < 2, "each member would be copied with all that follow it"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_comes_out_is_claimed_before_it_is_kept(encoding: str) -> None:
    body = bytes(5 << 20)
    claimed: list[int] = []
    sent = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    assert inflate(sent, encoding, len(body), claimed.append) == body
    assert sum(claimed) == len(body)
    assert max(claimed) <= 1 << 20


def test_a_reply_is_compressed_where_that_was_asked_for_and_is_worth_it() -> None:
    headers, body = {"Content-Type": "text/plain"}, bytes(MIN_COMPRESSED_BYTES)
    packed_headers, packed = compress(headers, body, "gzip")
    assert packed_headers == {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    assert gzip.decompress(packed) == body
    assert compress(headers, body, None) == (headers, body)
    assert compress(headers, body[1:], "gzip") == (headers, body[1:])


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", None),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip ; q=0.5, deflate", "deflate"),
        ("identity, gzip", None),
        ("gzip;q=0", None),
        ("gzip;q=x, deflate", "deflate"),
        ("gzip;q=nan", None),
        ("br, GZIP", "gzip"),
        ("*", None),
    ],
)
def test_the_heaviest_encoding_is_taken_and_of_equals_the_first(accept: str, encoding: str | None) -> None:
    assert negotiate(accept) == encoding
