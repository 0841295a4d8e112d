"""The tree of topics: what a topic asks, what a filter takes, and where nothing may be published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mqtt.topics import Command, Desired, Infer, Reply, Tree, matches, reply_problem

TREE = Tree("site/edge", "cam-1")


@pytest.mark.parametrize(
    ("topic", "asks"),
    [
        ("site/edge/v1/cam-1/infer/det", Infer("det")),
        ("site/edge/v1/cam-1/infer/det.2_b/versions/17", Infer("det.2_b", 17)),
        ("site/edge/v1/cam-1/infer/det/versions/0", Infer("det", 0)),
        ("site/edge/v1/cam-1/infer/det/req/app/7", Infer("det", None, Reply("app", "7"))),
        ("site/edge/v1/cam-1/infer/det/versions/3/req/app/7", Infer("det", 3, Reply("app", "7"))),
        ("site/edge/v1/_pool/all/infer/det", Infer("det", pool="all")),
        ("site/edge/v1/_pool/all/infer/det/req/app/7", Infer("det", None, Reply("app", "7"), "all")),
        ("site/edge/v1/cam-1/cmd/log-level", Command("log-level")),
        ("site/edge/v1/_fleet/all/cmd/sync", Command("sync", "all")),
        ("site/edge/v1/cam-1/desired", Desired()),
        ("site/edge/v1/_fleet/ring-0/desired", Desired("ring-0")),
    ],
)
def test_a_topic_says_what_it_asks_of_the_node(topic: str, asks: object) -> None:
    assert TREE.parse(topic) == asks


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "site/edge/v1",
        "site/edge/v10/cam-1/infer/det",
        "site/edge/v1/cam-2/infer/det",
        "edge/v1/cam-1/infer/det",
        "site/edge/v1/cam-1/infer",
        "site/edge/v1/cam-1/infer/",
        "site/edge/v1/cam-1/infer/../../x",
        "site/edge/v1/cam-1/infer/.det",
        "site/edge/v1/cam-1/infer/det/versions/-1",
        "site/edge/v1/cam-1/infer/det/versions/٣",
        "site/edge/v1/cam-1/infer/det/versions/99999999999999999999",
        "site/edge/v1/cam-1/infer/det/versions",
        "site/edge/v1/cam-1/infer/det/req/app",
        "site/edge/v1/cam-1/infer/det/req/app/7/8",
        "site/edge/v1/cam-1/infer/det/req/$SYS/7",
        "site/edge/v1/cam-1/infer/det/req//7",
        "site/edge/v1/cam-1/infer/" + "d" * 129,
        "site/edge/v1/cam-1/cmd/Sync",
        "site/edge/v1/cam-1/cmd/sync/result",
        "site/edge/v1/_fleet/all/infer/det",
        "site/edge/v1/_pool/+/infer/det",
        "site/edge/v1/_reply/app/7",
    ],
)
def test_a_topic_of_another_form_asks_nothing(topic: str) -> None:
    assert TREE.parse(topic) is None


@given(st.text(max_size=80))
def test_no_topic_whatever_makes_the_parser_fail(tail: str) -> None:
    TREE.parse("site/edge/v1/" + tail)


def test_what_the_tree_builds_it_reads() -> None:
    assert TREE.parse(TREE.command("unload")) == Command("unload")
    assert TREE.parse(TREE.fleet_command("all", "sync")) == Command("sync", "all")
    assert TREE.parse(TREE.pool("g", "m")) == Infer("m", pool="g")
    assert matches(TREE.infer_filter, "site/edge/v1/cam-1/infer/m/versions/2")
    assert matches(TREE.pool_filter("g", "m"), TREE.pool("g", "m"))
    assert matches(TREE.pool_filter("g", "m"), TREE.pool("g", "m") + "/req/a/1")
    assert not matches(TREE.pool_filter("g", "m"), TREE.pool("g", "mm"))


@pytest.mark.parametrize("prefix", ["", "/edge", "edge/", "a//b", "+", "a/#", "$share/x", "a b", "x" * 65])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="want a prefix"):
        Tree(prefix, "node")


@pytest.mark.parametrize("node", ["", "_fleet", "Cam", "-a", "a-", "a_b", "a.b", "a/b", "x" * 64])
def test_a_node_name_that_is_none_is_refused(node: str) -> None:
    with pytest.raises(ValueError, match="want a node's name"):
        Tree("edge", node)


@pytest.mark.parametrize(
    ("filter", "topic", "takes"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+/+", "/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/#/b", "a/x/b", False),
        ("$share/g/a/+", "a/b", True),
        ("$share/g", "g", False),
    ],
)
def test_filters_take_what_the_specification_says(filter: str, topic: str, takes: bool) -> None:
    assert matches(filter, topic) is takes


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "$SYS/broker",
        "edge/v1/cam/cmd/unload",
        "edge/v1/_reply/a/#",
        "edge/v1/_reply/+/x",
        "edge/v1/_reply/" + "x" * 256,
        "edge/v1/_reply/a\n",
        "edge/v1/_reply/a\x9b",
        "edge/v1/_reply/a\ufdd0",
        "edge/v1/_reply/a\U0001ffff",
        "edge/v1/_reply/" + "/" * 230,
        "edge/v1/_reply/" + "/" * 13,
        "edge/v1/_replyx/a",
        "/edge/v1/_reply/a",
    ],
)
def test_nothing_is_published_to_a_reply_topic_that_is_not_allowed(topic: str) -> None:
    assert reply_problem(topic, ["edge/v1/_reply/#"])


def test_a_reply_topic_that_is_allowed_has_no_problem() -> None:
    assert reply_problem("edge/v1/_reply/app/1", ["edge/v1/_reply/#"]) == ""
    assert reply_problem("edge/v1/_reply/" + "/" * 12, ["edge/v1/_reply/#"]) == ""
    assert reply_problem("edge/v1/_reply/Gerät 🙂", ["edge/v1/_reply/#"]) == ""
    assert reply_problem("answers/7", ["edge/v1/_reply/#", "answers/+"]) == ""
    assert reply_problem("answers/7", []) != ""
