"""What goes on around the models, in words for a person on the device. Pure.

Rule: what is as it should be has no line.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync.agent.reporter import RefusedReports


def of_reports(waiting: int, refused: RefusedReports) -> Iterator[str]:
    if waiting:
        yield f"reports {waiting} wait to be sent"
    if refused.count == 1:
        yield f"reports 1 was refused for ever, and dropped: number {refused.seq}: {refused.why}"
    elif refused.count:
        yield f"reports {refused.count} were refused for ever, and dropped; the last is number {refused.seq}: {refused.why}"
