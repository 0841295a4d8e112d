"""From bytes to a document of one of our forms.

Rule: pure; bounded before it is parsed; whatever is wrong with it is a DocumentError, which says of what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from sync.domain.errors import DocumentError


class Formed(Protocol):
    """What says of itself which form it has."""

    @property
    def format(self) -> str: ...


T = TypeVar("T", bound=Formed)


def decoded(
    what: str,
    data: bytes,
    kind: type[T],
    form: str,
    *,
    max_bytes: int,
    check: Callable[[T], None] = lambda document: None,
) -> T:
    """what: it is, for a person. form: the one `format` that is understood. check: raises ValueError for what makes no sense.

    Raises DocumentError.
    """
    try:
        if len(data) > max_bytes:
            raise ValueError(f"want at most {max_bytes} bytes, got {len(data)}")
        document = msgspec.json.decode(data, type=kind)
        if document.format != form:
            raise ValueError(f"format: want {form!r}, got {document.format[:40]!r}")
        check(document)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{what}: {error}") from None
    return document
