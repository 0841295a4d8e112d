"""Room for the body of an answer: bounded, and such that the first tensor in it can be used where it lies."""

from __future__ import annotations

import numpy as np

from edge.client.errors import BadAnswer, TooLarge
from edge.client.wire import ALIGNMENT

MAX_ANSWER_BYTES = 256 * 1024 * 1024


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"want an answer of at most {max_bytes} bytes (max_answer_bytes)")


def room(size: int, head_length: str) -> memoryview:
    """`size` bytes to write to; what follows a head of `head_length` begins at a multiple of ALIGNMENT."""
    head = int(head_length) if head_length.isascii() and head_length.isdecimal() and len(head_length) < 10 else 0
    space = np.empty(size + ALIGNMENT, np.uint8)
    start = -(space.__array_interface__["data"][0] + head) % ALIGNMENT
    return space.data[start : start + size]


def check_encoding(encoding: str) -> None:
    """Compressed answers are not asked for: one could become any size."""
    if encoding and encoding.lower() != "identity":
        raise BadAnswer(f"want an answer without an encoding, got {encoding[:40]!r}")


def content_length(text: str, max_bytes: int) -> int | None:
    """None where the header is missing. Raises TooLarge, BadAnswer."""
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise BadAnswer(f"Content-Length: want a number, got {text[:40]!r}")
    if int(text) > max_bytes:
        raise too_large(max_bytes)
    return int(text)
