"""Message classes by their whole names, from the definitions beside this.

Rule: they live in a pool of their own, so that they meet neither TensorFlow's, nor Triton's, nor anybody's in one process.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from edge.domain.errors import InvalidInput

FILES = ("wrappers", "tensorflow", "tensorflow_serving", "inference", "health")
"""Each after those that it imports."""


@cache
def message(name: str) -> Any:
    """The class of `tensorflow.serving.PredictRequest` and its like. Raises KeyError."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def prepare() -> None:
    """Reads the definitions, and imports what turns messages into others. Looks at the disk: what comes after does not."""
    from google.protobuf import json_format  # noqa: F401

    pool()


@cache
def pool() -> Any:
    from google.protobuf import descriptor_pool

    from edge.wire.proto.language import file_of

    made = descriptor_pool.DescriptorPool()
    for name in FILES:
        text = resources.files(__package__).joinpath(f"{name}.proto").read_text("utf-8")
        made.Add(file_of(text, f"{name}.proto"))
    return made


def to_bytes(made: Any) -> bytes:
    """A message, serialized."""
    data: bytes = made.SerializeToString()
    return data


def parse(name: str, data: bytes) -> Any:
    """A message from its bytes. Raises InvalidInput."""
    from google.protobuf.message import DecodeError

    try:
        return message(name).FromString(data)
    except (DecodeError, ValueError, RecursionError):
        raise InvalidInput(f"want a {name}, got {len(data)} bytes that are none") from None
