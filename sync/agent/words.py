"""Reasons, instants, durations and sizes in words for a person on the device. Pure.

Rule: every `Reason` has its words; a text that is none (a newer agent's) stands for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import NamedTuple

from sync.domain.errors import Reason


class Words(NamedTuple):
    """`what`: it is. `do`: what a person may do about it; "" for nothing but wait."""

    what: str
    do: str = ""


REASONS: Mapping[Reason, Words] = {
    Reason.NET_UNREACHABLE: Words(
        "the store does not answer", "see that the network is up and that store.url is right"
    ),
    Reason.NET_MISSING: Words(
        "the store does not have what it should", "ask the operator to run `edge-sync verify` on the store"
    ),
    Reason.NO_ROLLOUT: Words(
        "nothing was ever rolled out to this device's group",
        "see that device.group is right; if it is, wait for the operator's first rollout",
    ),
    Reason.NET_REFUSED: Words(
        "the store answers with what cannot be used",
        "see what stands between this device and the store: a proxy, a login page",
    ),
    Reason.SLOW_SOURCE: Words("the store is too slow", "see what else uses the network"),
    Reason.NET_CONFLICT: Words("somebody else wrote to the store first", "publish again"),
    Reason.TRUST_EXPIRED: Words(
        "a signature has ended that a person must renew", "ask the holders of the store's keys to sign anew"
    ),
    Reason.TRUST_ROLLBACK: Words(
        "the store shows something older than what this device has seen",
        "ask the operator whether the store was restored from a backup; if nobody did that, somebody replays old metadata",
    ),
    Reason.TRUST_SIGNATURE: Words(
        "a signature is missing or wrong", "compare this device's root document with the operator's, by its digest"
    ),
    Reason.STALE_METADATA: Words(
        "the store's signatures have ended", "ask the operator why `edge-sync refresh` does not renew them"
    ),
    Reason.CLOCK_SUSPECT: Words("this device's clock is likely wrong", "set the clock"),
    Reason.HASH_MISMATCH: Words(
        "the bytes that came are not those that were signed", "ask the operator to run `edge-sync verify` on the store"
    ),
    Reason.DELTA_FAILED: Words("a patch does not apply", "nothing: the whole file is fetched"),
    Reason.DEFERRED: Words("its hour has not come"),
    Reason.BLOCKED_DISK: Words("the disk is too full", "make room"),
    Reason.IO_ERROR: Words(
        "the disk fails, or may not be written", "see the kernel's log, and who owns the directories"
    ),
    Reason.INCOMPATIBLE: Words("this release must not run here", "ask the operator for a release that may"),
    Reason.NO_VARIANT: Words(
        "no build of it is for this device", "see that device.accelerators names all that the device has"
    ),
    Reason.LOW_MEMORY: Words("there is not enough memory for it", "see what else uses memory"),
    Reason.LOAD_FAILED: Words("the server could not load it", "ask the operator for a version that loads"),
    Reason.SELFTEST_FAILED: Words("it failed its self-test", "ask the operator for a version that passes"),
    Reason.SELFTEST_TIMEOUT: Words("its self-test took too long", "see what else uses the processor"),
    Reason.CRASH_LOOP: Words("the server died of it again and again", "see the server's log"),
    Reason.HEALTH_ERRORS: Words("it failed more requests than the version before", "see the server's log"),
    Reason.HEALTH_LATENCY: Words("it is slower than the version before"),
    Reason.ROLLED_BACK_OPERATOR: Words("the operator took it back"),
    Reason.TIMED_OUT: Words("it did not get ready in time", "see the server's log"),
    Reason.NO_MODEL: Words(
        "nothing can be served, for what served before failed too", "ask the operator for another version"
    ),
    Reason.NO_SERVER: Words(
        "the model server does not answer", "see that it runs, and that paths.admin_uds names its socket"
    ),
}


def words_of(reason: str) -> Words:
    """Of a reason as it stands in documents."""
    try:
        return REASONS[Reason(reason)]
    except (ValueError, KeyError):
        return Words(reason)


def because(reason: str, detail: str) -> str:
    """The reason in words, and what came; "" for no reason."""
    if not reason:
        return detail
    what = words_of(reason).what
    return f"{what} ({detail})" if detail else what


def advice(reason: str, detail: str) -> str:
    """The same, and what a person may do about it."""
    do = words_of(reason).do if reason else ""
    return because(reason, detail) + (f"; {do}" if do else "")


def plain(text: str) -> str:
    """One line, without what a terminal would act on: a store, or a server, may have said it."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.splitlines()))


def moment(at: float, now: float, zone: tzinfo | None) -> str:
    """An instant on the clock on the wall, with its date where it is not within a day. at, now: seconds since the epoch."""
    then = datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_000.0), zone)
    return f"{then:%H:%M}" if abs(at - now) < 86400 else f"{then:%Y-%m-%d %H:%M}"


def lasting(seconds: float) -> str:
    """A duration, rounded: "45 s", "12 min", "3 h", "5 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def amount(count: float) -> str:
    """Bytes: "512 B", "4.0 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
