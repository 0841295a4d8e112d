"""What nodes are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.domain.node import NODE, node_name


@pytest.mark.parametrize(
    ("hostname", "machine", "name"),
    [
        ("Cam_1.local", "", "cam-1"),
        ("gate--3", "abc", "gate--3"),
        ("x" * 80, "", "x" * 63),
        ("x" * 62 + "-y", "", "x" * 62),
        ("___", "", "edge"),
        ("raspberrypi", "", "raspberrypi"),
    ],
)
def test_a_node_is_named_after_its_host(hostname: str, machine: str, name: str) -> None:
    assert node_name(hostname, machine) == name
    assert NODE.fullmatch(node_name(hostname, machine))


def test_nodes_whose_hosts_have_the_name_of_their_image_are_told_apart_by_their_machines() -> None:
    one, other = node_name("raspberrypi", "aaaa\n"), node_name("raspberrypi", "bbbb\n")
    assert one != other
    assert one == node_name("raspberrypi", "aaaa")
    assert one.startswith("raspberrypi-")
    assert "aaaa" not in one


@given(st.text(max_size=90), st.text(max_size=40))
def test_whatever_a_host_is_called_its_node_has_a_name(hostname: str, machine: str) -> None:
    assert NODE.fullmatch(node_name(hostname, machine))
