import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.domain.policy import All, Latest, Specific, VersionPolicy, parse_policy

VERSIONS = st.sets(st.integers(0, 2**63 - 1), max_size=8)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("latest", Latest(1)),
        ("latest:3", Latest(3)),
        ("all", All()),
        ("specific:5,3", Specific((3, 5))),
        ("specific: 0 , 7", Specific((0, 7))),
    ],
)
def test_a_policy_is_read_as_it_is_written(text: str, policy: VersionPolicy) -> None:
    assert parse_policy(text) == policy
    assert parse_policy(str(policy)) == policy


@pytest.mark.parametrize(
    "text",
    ["", "newest", "latest:0", "latest:-1", "latest:", "all:1", "specific", "specific:", "specific:1,,2", "specific:x",
     "latest:1e3", "specific:" + "9" * 30, "specific:9223372036854775808", "latest:²"],
)  # fmt: skip
def test_what_is_no_policy_is_refused_with_what_was_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="want latest, latest:N, all or specific:V,V, got"):
        parse_policy(text)


@given(VERSIONS, st.integers(1, 10))
def test_the_latest_are_the_highest_in_descending_order(available: set[int], count: int) -> None:
    chosen = Latest(count).choose(available)
    assert list(chosen) == sorted(available)[::-1][:count]


@given(VERSIONS, VERSIONS)
def test_only_what_is_there_is_chosen(available: set[int], wanted: set[int]) -> None:
    assert set(Specific(tuple(wanted)).choose(available)) == available & wanted
    assert All().choose(iter(available)) == tuple(sorted(available, reverse=True))
