"""Everything that may keep an update from happening.

SyncError
├── StoreError                  where the bytes should have come from
│   ├── Unreachable             nobody answers, or not in time
│   ├── Missing                 it is not there
│   │   └── NoRollout           nothing was ever rolled out to the device's group
│   ├── Refused                 an answer that is none: a status, a length, a range that was not asked for
│   ├── Rejected                what was brought is not taken, now or ever
│   ├── TooSlow                 under the minimum rate, or past the source's deadline
│   └── Conflict                somebody else wrote first; nothing of ours was written
├── TrustError                  what came is not what the keys' holders signed, or not any more
├── DocumentError               signed, and yet not a document that this version understands
├── HashMismatch                bytes of another digest or length than was signed
├── DeltaError                  a patch that does not apply
├── Deferred                    an update waits for its hour
├── DiskFull                    an update waits for room
├── DiskError                   the disk fails, or may not be written
├── Unsuitable                  no variant for this device, or a release that it must not run
├── ServerAbsent                the model server does not answer on its socket
└── OperatorError               what was asked for on the command line makes no sense
    └── CheckFailed             a version that does not load, or does not pass its own test

Rule 1: each carries the `Reason` that a report says. Rule 2: a message says what was wanted and what came. Rule 3: what came
may be anybody's: a message can be written down and shown wherever it goes, and is no longer than MAX_MESSAGE_CHARS.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

MAX_MESSAGE_CHARS = 2000


class Reason(Enum):
    """Why an update did not happen, or not yet: the closed set that reports and metrics use."""

    NET_UNREACHABLE = "net_unreachable"
    NET_MISSING = "net_missing"
    NO_ROLLOUT = "no_rollout"
    NET_REFUSED = "net_refused"
    SLOW_SOURCE = "slow_source"
    NET_CONFLICT = "net_conflict"
    TRUST_EXPIRED = "trust_expired"
    TRUST_ROLLBACK = "trust_rollback"
    TRUST_SIGNATURE = "trust_signature"
    STALE_METADATA = "stale_metadata"
    CLOCK_SUSPECT = "clock_suspect"
    HASH_MISMATCH = "hash_mismatch"
    DELTA_FAILED = "delta_failed"
    DEFERRED = "deferred"
    BLOCKED_DISK = "blocked_disk"
    IO_ERROR = "io_error"
    INCOMPATIBLE = "incompatible"
    NO_VARIANT = "no_variant"
    LOW_MEMORY = "low_memory"
    LOAD_FAILED = "load_failed"
    SELFTEST_FAILED = "selftest_failed"
    SELFTEST_TIMEOUT = "selftest_timeout"
    CRASH_LOOP = "crash_loop"
    HEALTH_ERRORS = "health_errors"
    HEALTH_LATENCY = "health_latency"
    ROLLED_BACK_OPERATOR = "rolled_back_operator"
    TIMED_OUT = "timed_out"
    NO_MODEL = "no_model"
    NO_SERVER = "no_server"


class SyncError(Exception):
    """A bug is never one of these. `retry_after_s`: when who refused asks to come back, in seconds; 0 where nobody does."""

    reason: Reason
    retry_after_s: float = 0.0

    def __init__(self, message: str) -> None:
        self.message = _plain(message)
        super().__init__(self.message)


class StoreError(SyncError):
    reason = Reason.NET_REFUSED


class Unreachable(StoreError):
    reason = Reason.NET_UNREACHABLE


class Missing(StoreError):
    reason = Reason.NET_MISSING


class NoRollout(Missing):
    """The store is well, and has answered."""

    reason = Reason.NO_ROLLOUT


class Refused(StoreError):
    reason = Reason.NET_REFUSED

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(StoreError):
    reason = Reason.NET_REFUSED


class TooSlow(StoreError):
    reason = Reason.SLOW_SOURCE


class Conflict(StoreError):
    reason = Reason.NET_CONFLICT


class TrustError(SyncError):
    """`reason` is one of TRUST_EXPIRED, TRUST_ROLLBACK, TRUST_SIGNATURE, STALE_METADATA and CLOCK_SUSPECT."""

    def __init__(self, message: str, reason: Reason = Reason.TRUST_SIGNATURE) -> None:
        super().__init__(message)
        self.reason = reason


class DocumentError(SyncError):
    reason = Reason.INCOMPATIBLE


class HashMismatch(SyncError):
    reason = Reason.HASH_MISMATCH


class DeltaError(SyncError):
    reason = Reason.DELTA_FAILED


class Deferred(SyncError):
    """`wait_s`: seconds until it may be."""

    reason = Reason.DEFERRED

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class DiskFull(SyncError):
    """`need` and `free` in bytes."""

    reason = Reason.BLOCKED_DISK

    def __init__(self, need: int, free: int) -> None:
        super().__init__(f"want {need} bytes of disk, {free} are free")
        self.need, self.free = need, free


class DiskError(SyncError):
    reason = Reason.IO_ERROR


class Unsuitable(SyncError):
    """`reason` is INCOMPATIBLE, NO_VARIANT or LOW_MEMORY."""

    def __init__(self, message: str, reason: Reason = Reason.INCOMPATIBLE) -> None:
        super().__init__(message)
        self.reason = reason


class ServerAbsent(SyncError):
    reason = Reason.NO_SERVER


class OperatorError(SyncError):
    """more: what else is wrong, each on a line of its own below the message; `more` has them, for programs."""

    reason = Reason.INCOMPATIBLE

    def __init__(self, message: str, more: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.more = tuple(map(_plain, more))
        self.message = _cut("\n  ".join((self.message, *self.more)))
        self.args = (self.message,)


class CheckFailed(OperatorError):
    """A version that does not load, or does not pass its own test."""


def _plain(text: str) -> str:
    """Without halves of characters, which no file takes, and without what a terminal would act on."""
    return "".join(char if char.isprintable() else "�" for char in _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
