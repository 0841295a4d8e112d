import pytest

from edge.domain.lifecycle import TABLE, Event, State, step


def test_every_state_can_be_reached_and_left_or_is_an_end() -> None:
    reached = set(TABLE.values()) | {State.NEW}
    left = {state for state, _ in TABLE}
    assert reached == set(State)
    assert set(State) - left == {State.UNLOADED, State.FAILED}


def test_a_transition_that_the_table_lacks_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no row"):
        step(State.READY, Event.LOAD)
