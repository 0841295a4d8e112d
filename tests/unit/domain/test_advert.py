"""What is announced is small and in form; what others announce is believed only where it is in form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.domain.advert import (
    MAX_TXT_BYTES,
    Advert,
    from_txt,
    models_hash,
    to_txt,
    txt_bytes,
)
from edge.mqtt.topics import PREFIX

ID = "03bd0056-4c65-48e4-86c0-9ff8a092d637"
FULL = Advert(
    ID, "0.1.0", tls=True, auth="bearer", devices=("cpu", "edgetpu"), models=3, models_hash="1cce94ee", mqtt="edge"
)


def strings(**changed: str | None) -> dict[bytes, bytes | None]:
    said = {**to_txt(FULL), **changed}
    return {key.encode(): value.encode() for key, value in said.items() if value is not None}


def test_what_is_announced_is_read_as_it_was_meant() -> None:
    assert from_txt(strings()) == FULL
    assert from_txt({key.upper(): value for key, value in strings().items()}) == FULL


def test_a_record_begins_with_its_version_and_is_small() -> None:
    said = to_txt(FULL)
    assert next(iter(said)) == "txtvers"
    assert list(said) == ["txtvers", "id", "ver", "api", "path", "tls", "auth", "dev", "nmodels", "mhash", "mqtt"]
    assert txt_bytes(said) < 150
    assert all(len(key) <= 9 for key in said)


@given(st.integers(0, 10**9), st.text(max_size=300), st.lists(st.text(max_size=16), max_size=40), st.text(max_size=300))
def test_no_record_is_larger_than_its_bound(models: int, release: str, devices: list[str], mqtt: str) -> None:
    ascii_release = release.encode("ascii", "ignore").decode()
    said = to_txt(Advert(ID, ascii_release, devices=tuple(devices), models=models, mqtt=mqtt))
    assert txt_bytes(said) <= MAX_TXT_BYTES
    assert said["id"] == ID


def test_what_is_missing_and_may_be_has_a_default() -> None:
    assert from_txt({b"txtvers": b"1", b"id": b"a", b"ver": b"1"}) == Advert("a", "1", api=())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("txtvers", None),
        ("txtvers", "2"),
        ("id", None),
        ("id", "x" * 65),
        ("id", "a b"),
        ("ver", "\x1b[31m"),
        ("path", "http://elsewhere/"),
        ("path", "//elsewhere/"),
        ("path", "/../admin"),
        ("path", "/a?b"),
        ("path", "/a#b"),
        ("path", "/@elsewhere:80/"),
        ("path", ""),
        ("path", "/" + "a" * 200),
        ("tls", "yes"),
        ("auth", "basic"),
        ("dev", "CPU!"),
        ("dev", "a," * 20 + "a"),
        ("nmodels", "-1"),
        ("nmodels", "9" * 7),
        ("nmodels", "²"),
        ("mhash", "xyz"),
        ("mqtt", "a/#"),
        ("mqtt", "a\n"),
        ("mqtt", "a\x9b31m"),
        ("mqtt", "a\u202e"),
        ("mqtt", "é"),
        ("mqtt", "/a"),
        ("mqtt", "x" * 65),
        ("api", "\xff" * 30),
    ],
)
def test_a_record_out_of_form_is_nobodys(key: str, value: str | None) -> None:
    with pytest.raises(ValueError, match=f"^{key}: want"):
        from_txt(strings(**{key: value}))


@pytest.mark.parametrize("prefix", ["edge", "site/edge", "a.b_c-d/" * 3 + "e", "x" * 64, "/".join(["y" * 64] * 4)])
def test_every_prefix_that_a_server_may_have_can_be_announced(prefix: str) -> None:
    assert PREFIX.fullmatch(prefix)
    assert from_txt(strings(mqtt=prefix)).mqtt == prefix


def test_a_record_larger_than_a_packet_is_not_read() -> None:
    with pytest.raises(ValueError, match="at most"):
        from_txt(strings() | {b"k%d" % number: b"x" * 250 for number in range(6)})


@given(st.dictionaries(st.binary(max_size=20), st.none() | st.binary(max_size=60), max_size=12))
def test_no_record_raises_anything_else(record: dict[bytes, bytes | None]) -> None:
    for strange in (record, strings() | record):
        try:
            read = from_txt(strange)
        except ValueError:
            continue
        assert read.path.isascii()
        assert "//" not in read.path


def test_the_hash_follows_the_set_and_nothing_else() -> None:
    one = models_hash([("a", 1), ("b", 2)])
    assert one == models_hash([("b", 2), ("a", 1)])
    assert len({one, models_hash([("a", 1)]), models_hash([("a", 1), ("b", 3)]), models_hash([])}) == 4
    assert len(one) == 8
