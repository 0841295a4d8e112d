"""Which versions of a model were withdrawn: signed by the `releases` key, so that no number is ever used again.

Rule 1: pure. Rule 2: neighbours become one span, so that the list stays short however many go; a span holds no number that was
not withdrawn. Rule 3: what the withdrawn ones have forbidden stays forbidden: a span keeps the highest of their counters.
Rule 4: it names no digest: what nothing else names is garbage.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edge.domain.layout import is_model_name
from edge.domain.models import MAX_VERSION
from sync.domain.forms import decoded
from sync.domain.release import MAX_MANIFEST_BYTES

FORMAT = "edge-withdrawn/1"
MAX_DOCUMENT_BYTES = MAX_MANIFEST_BYTES


class Span(msgspec.Struct, frozen=True):
    """The versions from `first` to `last`, both withdrawn; `release_counter` and `min_counter`: the highest among them."""

    first: int
    last: int
    release_counter: int
    min_counter: int = 0


class Withdrawn(msgspec.Struct, frozen=True):
    """`spans`: in order, without a number twice."""

    format: str
    name: str
    spans: tuple[Span, ...] = ()

    def __contains__(self, version: int) -> bool:
        return any(span.first <= version <= span.last for span in self.spans)

    def below(self, version: int) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.last < version)


def with_more(before: Withdrawn, more: Iterable[Span]) -> Withdrawn:
    """more: of versions that are not withdrawn yet."""
    spans: list[Span] = []
    for span in sorted((*before.spans, *more), key=lambda each: each.first):
        if spans and spans[-1].last + 1 == span.first:
            left = spans.pop()
            counter = max(left.release_counter, span.release_counter)
            span = Span(left.first, span.last, counter, max(left.min_counter, span.min_counter))
        spans.append(span)
    return Withdrawn(FORMAT, before.name, tuple(spans))


def parse_withdrawn(data: bytes) -> Withdrawn:
    """Raises DocumentError."""
    return decoded("withdrawn", data, Withdrawn, FORMAT, max_bytes=MAX_DOCUMENT_BYTES, check=_check)


def encode_withdrawn(document: Withdrawn) -> bytes:
    """Raises DocumentError where `parse_withdrawn` would."""
    data = msgspec.json.encode(document, order="deterministic") + b"\n"
    parse_withdrawn(data)
    return data


def _check(document: Withdrawn) -> None:
    if not is_model_name(document.name):
        raise ValueError(f"name: want a model's name, got {document.name[:80]!r}")
    least = 0
    for span in document.spans:
        if not least <= span.first <= span.last <= MAX_VERSION:
            raise ValueError(f"spans: want them in order from 0 to {MAX_VERSION}, got {span.first} to {span.last}")
        if not (0 <= span.release_counter <= MAX_VERSION and 0 <= span.min_counter <= MAX_VERSION):
            raise ValueError(f"spans: {span.first}: want counters from 0 to {MAX_VERSION}")
        least = span.last + 1
