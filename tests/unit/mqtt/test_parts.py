"""What the link is made of: acks, the outbox, pauses, subscriptions, properties."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from edge.mqtt.acks import Acks
from edge.mqtt.backoff import MAX_S, Backoff, Rivalry
from edge.mqtt.message import Properties
from edge.mqtt.outbox import Ack, Outbox, Outgoing
from edge.mqtt.settings import LinkSettings
from edge.mqtt.subscriptions import Subscriptions, Wish

MANY = 1 << 30


def test_acks_go_out_in_the_order_in_which_messages_came() -> None:
    acks = Acks()
    acks.connected()
    first, second, third = (acks.came(mid, 1) for mid in (7, 8, 9))
    assert acks.done(second) == []
    assert acks.done(third) == []
    assert [ack.mid for ack in acks.done(first)] == [7, 8, 9]
    assert len(acks) == 0


def test_what_came_by_an_older_connection_is_not_acked_on_a_new_one() -> None:
    acks = Acks()
    acks.connected()
    old = acks.came(7, 1)
    acks.connected()
    new = acks.came(7, 1)
    assert acks.done(old) == []
    assert [ack.mid for ack in acks.done(new)] == [7]


def test_a_second_ack_of_one_message_acks_no_other() -> None:
    acks = Acks()
    acks.connected()
    first, second = acks.came(1, 1), acks.came(2, 1)
    assert [ack.mid for ack in acks.done(first)] == [1]
    assert acks.done(first) == []
    assert [ack.mid for ack in acks.done(second)] == [2]


def topics(outbox: Outbox) -> list[str]:
    items = [outbox.pop() for _ in range(len(outbox))]
    return [item.topic if isinstance(item, Outgoing) else f"ack {item.mid}" for item in items]


def test_a_full_outbox_lets_the_oldest_go_that_may_be_dropped() -> None:
    outbox = Outbox(3, MANY)
    for topic, droppable in (("a", False), ("stats-1", True), ("stats-2", True)):
        assert outbox.put(Outgoing(topic, b"", 1, droppable=droppable))
    assert outbox.put(Outgoing("b", b"", 1))
    assert outbox.dropped == 1
    assert topics(outbox) == ["a", "stats-2", "b"]


def test_a_full_outbox_takes_nothing_that_may_be_dropped_itself_or_when_nothing_else_may_be() -> None:
    outbox = Outbox(1, MANY)
    outbox.put(Outgoing("a", b"", 1))
    assert not outbox.put(Outgoing("stats", b"", droppable=True))
    assert not outbox.put(Outgoing("b", b"", 1))
    assert topics(outbox) == ["a"]
    assert outbox.dropped == 2


def test_in_a_full_outbox_what_promises_nothing_makes_room_for_what_does() -> None:
    outbox = Outbox(3, MANY)
    for item in (Outgoing("status", b"", 0, retain=True), Outgoing("a", b"", 1), Outgoing("b", b"", 0)):
        assert outbox.put(item)
    assert not outbox.put(Outgoing("c", b"", 0))
    assert outbox.put(Outgoing("d", b"", 1))
    assert not outbox.put(Outgoing("e", b"", 1))
    assert outbox.dropped == 3
    assert topics(outbox) == ["status", "a", "d"]


def test_an_outbox_is_bounded_in_bytes_too_but_takes_one_of_any_size() -> None:
    outbox = Outbox(100, 10)
    assert outbox.put(Outgoing("large", bytes(50), 1))
    assert not outbox.put(Outgoing("b", b"x", 1))
    outbox.pop()
    assert outbox.put(Outgoing("b", bytes(6), 1))
    assert not outbox.put(Outgoing("c", bytes(6), 1))


def test_of_retained_messages_only_the_newest_of_a_topic_waits() -> None:
    outbox = Outbox(10, MANY)
    for topic, payload in (("status", b"offline"), ("x", b""), ("status", b"online")):
        outbox.put(Outgoing(topic, payload, 1, retain=topic == "status"))
    waiting = [outbox.pop(), outbox.pop()]
    assert [(item.topic, item.payload) for item in waiting if isinstance(item, Outgoing)] == [
        ("x", b""),
        ("status", b"online"),
    ]
    assert not len(outbox)


def test_after_a_connection_what_was_not_acknowledged_goes_first_and_acks_and_qos_0_go() -> None:
    outbox = Outbox(10, MANY)
    outbox.put(Outgoing("c", b"", 1))
    outbox.put_acks([Ack(1, 1)])
    outbox.put(Outgoing("lost", b"", 0))
    outbox.put(Outgoing("status", b"new", 1, retain=True))
    outbox.put_back([Outgoing("a", b"", 1), Outgoing("status", b"old", 1, retain=True), Outgoing("b", b"", 1)])
    assert topics(outbox) == ["a", "b", "c", "status"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_an_outbox_never_holds_more_than_it_may(steps: list[tuple[int, bool, bool]]) -> None:
    outbox = Outbox(4, 20)
    for size, retain, droppable in steps:
        outbox.put(Outgoing(f"t{size}", bytes(size * 3), 1, retain=retain, droppable=droppable))
        held = len(outbox)
        assert held <= 4
    total = sum(len(item.payload) for item in (outbox.pop() for _ in range(len(outbox))) if isinstance(item, Outgoing))
    assert total <= 20


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_pauses_double_up_to_a_minute_and_are_jittered_from_nothing() -> None:
    backoff = Backoff(Highest())
    assert [backoff.lost(0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert Backoff(Lowest()).lost(0) == 0


def test_a_connection_that_lasted_begins_the_pauses_anew() -> None:
    backoff = Backoff(Highest())
    for _ in range(5):
        backoff.lost(0)
    assert backoff.lost(11) == 1


def test_a_link_that_is_taken_over_comes_back_ever_more_slowly() -> None:
    least = Backoff(Lowest())
    pauses = [least.lost(20, taken_over=True) for _ in range(4)]
    assert pauses == [8, 16, MAX_S / 2, MAX_S / 2]
    assert least.lost(200, taken_over=True) == 8


def test_a_connection_that_was_closed_without_a_word_has_lasted_only_after_two_minutes() -> None:
    backoff = Backoff(Highest())
    backoff.lost(0)
    assert backoff.lost(60, silent=True) == 2
    assert backoff.lost(130, silent=True) == 1


def rivalry(*ends: tuple[str, float], session_present: bool = True) -> list[bool]:
    subject, says = Rivalry(), []
    for what, lasted_s in ends:
        if what == "failed":
            subject.failed()
        else:
            subject.connected(session_present=session_present)
            says.append(subject.lost(lasted_s, silent=what == "silent"))
    return says


def test_a_broker_that_keeps_closing_without_a_word_and_knows_the_session_has_another_client_of_that_name() -> None:
    silent = ("silent", 2.0)
    assert rivalry(silent, silent, silent, silent) == [False, False, True, True]


def test_a_broker_that_was_away_or_forgot_or_said_why_or_took_its_time_is_no_sign_of_another_client() -> None:
    silent = ("silent", 2.0)
    assert not any(rivalry(silent, silent, silent, silent, session_present=False))
    assert not any(rivalry(silent, ("failed", 0), silent, ("failed", 0), silent, ("failed", 0), silent))
    assert not any(rivalry(silent, ("said", 2), silent, ("said", 2), silent))
    assert not any(rivalry(*[("silent", 130.0)] * 5))


def test_what_a_session_lacks_is_subscribed_and_what_is_no_longer_wished_goes() -> None:
    subscriptions = Subscriptions()
    subscriptions.wishes = {"a": Wish(1), "b": Wish(1)}
    subscriptions.connected(session_present=False)
    assert set(subscriptions.new()) == {"a", "b"}
    subscriptions.asked(1, ["a", "b"])
    subscriptions.answered(1, ["", "Not authorized"])
    assert subscriptions.new() == {}
    del subscriptions.wishes["a"]
    assert subscriptions.gone() == ["a"]
    subscriptions.asked(2, ["a"])
    assert subscriptions.gone() == []


def test_what_the_broker_has_not_answered_before_the_end_is_asked_again() -> None:
    subscriptions = Subscriptions()
    subscriptions.wishes = {"a": Wish(1), "b": Wish(1)}
    subscriptions.asked(1, ["a", "b"])
    subscriptions.answered(1, ["", ""])
    subscriptions.wishes["c"] = Wish(1)
    del subscriptions.wishes["a"]
    subscriptions.asked(2, ["c"])
    subscriptions.asked(3, ["a"])
    subscriptions.lost()
    subscriptions.connected(session_present=True)
    assert list(subscriptions.new()) == ["c"]
    assert subscriptions.gone() == ["a"]


def test_a_session_that_is_gone_is_asked_for_everything() -> None:
    subscriptions = Subscriptions()
    subscriptions.wishes = {"a": Wish(1)}
    subscriptions.asked(1, ["a"])
    subscriptions.answered(1, [""])
    subscriptions.lost()
    subscriptions.connected(session_present=True)
    assert subscriptions.new() == {}
    subscriptions.connected(session_present=False)
    assert list(subscriptions.new()) == ["a"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=30)


@given(
    st.builds(
        Properties,
        response_topic=st.none() | TEXT,
        correlation=st.none() | st.binary(max_size=64),
        expiry_s=st.none() | st.integers(0, 2**32 - 1),
        content_type=st.none() | TEXT,
        user=st.lists(st.tuples(TEXT, TEXT), max_size=5).map(tuple),
        text=st.booleans(),
    )
)
def test_properties_are_packed_as_the_specification_has_them(properties: Properties) -> None:
    make: Any = PahoProperties
    packed = properties.pack()
    unpacked, length = make(PacketTypes.PUBLISH).unpack(packed)
    assert length == len(packed)
    said = vars(unpacked)
    assert properties == Properties(
        response_topic=said.get("ResponseTopic"),
        correlation=said.get("CorrelationData"),
        expiry_s=said.get("MessageExpiryInterval"),
        content_type=said.get("ContentType"),
        user=tuple(said.get("UserProperty", ())),
        text=said.get("PayloadFormatIndicator") == 1,
    )


def test_a_property_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65535 bytes, got 65536"):
        Properties(correlation=bytes(65536)).pack()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": ""}, "want the broker's host"),
        ({"port": 0}, "want a port"),
        ({"client_id": ""}, "want a client id"),
        ({"receive_maximum": 0}, "want a receive_maximum"),
        ({"max_packet_bytes": 10}, "want max_packet_bytes"),
        ({"key_file": Path("k")}, "wants a cert_file"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LinkSettings(**({"host": "h", "client_id": "c"} | wrong))
