"""A client on a broker that answers every request to a node with the request's payload."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge.mqtt.topics import Tree

TREE = Tree("edge", "cam1")


@contextmanager
def responder(port: int) -> Iterator[None]:
    """In a process of its own; it has subscribed on entering."""
    command = [sys.executable, "-m", "benchmarks.mqtt_echo", str(port), TREE.infer_filter]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout as said:
            assert said.readline() == "subscribed\n"
            yield
    finally:
        process.kill()
        process.wait()
