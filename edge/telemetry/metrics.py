"""Counters and histograms that cost a request less than a microsecond.

Rule 1: counting is integer arithmetic on objects that the caller holds; names, text and locks belong to the scrape.
Rule 2: every set of labels is bounded: nothing that a client sends becomes one.
Rule 3: what can be asked at the scrape is asked then (`watch`), not kept up to date.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edge.domain.lifecycle import State
from edge.telemetry.window import WINDOW_S, Recent, Totals, Window, percentile

if TYPE_CHECKING:
    from edge.domain.ports import ModelStatus
    from edge.telemetry.exposition import Exposition
    from edge.telemetry.routing import RoutingCounts
    from edge.telemetry.tfserving import ModelCounts

OK = "ok"
INTERNAL = "internal"
CANCELLED = "cancelled"
OWED = frozenset({INTERNAL, "inference_failed", "deadline", "overloaded", "not_ready"})
"""Codes of errors that are no fault of the client's; those of `edge.domain.errors` by their values, which need no numpy."""
ENDED = frozenset({State.NEW, State.UNLOADED, State.FAILED})
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SWAP_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Rows."""
MAX_PAST_VERSIONS = 8
MAX_OUTCOMES = 64


class Histogram:
    """Counts by bucket; `counts` has one more than `bounds`, for what lies above all of them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = BUCKETS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class VersionMetrics:
    """One version's share of the metrics. Held by its slot, so that a request looks nothing up.

    `device` is brought up to date at each scrape.
    """

    __slots__ = (
        "_failed_s",
        "_failures_s",
        "_tfserving",
        "_window",
        "batch",
        "cache_bytes",
        "cache_lookups",
        "device",
        "failures",
        "inference",
        "model",
        "non_finite",
        "outcomes",
        "queue",
        "request",
        "version",
    )

    def __init__(
        self, model: str, version: int, *, clock: Callable[[], float], tfserving: ModelCounts | None = None
    ) -> None:
        self.model, self.version = model, version
        self.device = ""
        self.failures = self.non_finite = 0
        self._failed_s = self._failures_s = 0.0
        self.outcomes: dict[tuple[str, str], int] = {}
        self.request, self.queue, self.inference = Histogram(), Histogram(), Histogram()
        self.batch: Histogram | None = None  # of versions whose requests share runs only
        self.cache_lookups: dict[str, int] = {}
        self.cache_bytes = 0
        self._window = Window(clock)
        self._tfserving = tfserving

    def answered(self, protocol: str, total_s: float, queue_s: float, run_s: float, *, finite: bool = True) -> None:
        """One request that got its answer. Times in seconds: the whole in the server, and two parts of it.

        `finite`: whether the answer is free of NaN and infinities.
        """
        try:
            self.outcomes[protocol, OK] += 1
        except KeyError:
            self._new_outcome(protocol, OK)
        # Written out thrice: a call each would cost as much as all the rest.
        histogram = self.request
        histogram.counts[bisect_left(BUCKETS_S, total_s)] += 1
        histogram.sum += total_s
        histogram = self.queue
        histogram.counts[bisect_left(BUCKETS_S, queue_s)] += 1
        histogram.sum += queue_s
        histogram = self.inference
        histogram.counts[bisect_left(BUCKETS_S, run_s)] += 1
        histogram.sum += run_s
        self._window.answered(total_s, run_s)
        if not finite:
            self.non_finite += 1
            self._window.non_finite()
        if self._tfserving is not None:
            self._tfserving.observe(protocol, OK, total_s, run_s)

    def failed(self, protocol: str, code: str, total_s: float, *, by_model: bool = False) -> None:
        """One request that got an error: a `Code`'s value, INTERNAL, or CANCELLED. `by_model`: the version is to blame."""
        try:
            self.outcomes[protocol, code] += 1
        except KeyError:
            self._new_outcome(protocol, code)
        self.request.observe(total_s)
        self._failed_s += total_s
        if by_model:
            self.failures += 1
            self._failures_s += total_s
        self._window.refused(failure=by_model)
        if self._tfserving is not None:
            self._tfserving.observe(protocol, code, total_s, 0.0)

    def ran(self, rows: int) -> None:
        """A run that requests may share, of so many rows."""
        if self.batch is None:
            self.batch = Histogram(BATCH_BUCKETS)
        self.batch.observe(rows)

    def looked_up(self, *, hit: bool) -> None:
        result = "hit" if hit else "miss"
        self.cache_lookups[result] = self.cache_lookups.get(result, 0) + 1

    def keeps(self, nbytes: int) -> None:
        self.cache_bytes = nbytes

    def window(self, seconds: float = WINDOW_S) -> Recent:
        """The last `seconds`, for the status."""
        return self._window.recent(seconds)

    def totals(self) -> Totals:
        """All since the version was first loaded, for the status."""
        outcomes = list(self.outcomes.items())
        return Totals(
            requests=sum(count for _, count in outcomes),
            answered=sum(count for (_, code), count in outcomes if code == OK),
            failures=self.failures,
            non_finite=self.non_finite,
            unserved=sum(count for (_, code), count in outcomes if code in OWED),
            answered_s=self.request.sum - self._failed_s,
            queue_s=self.queue.sum,
            run_s=self.inference.sum,
            failures_s=self._failures_s,
        )

    def latencies(self) -> list[float]:
        """Whole times of the answers of the last WINDOW_S seconds, in no order."""
        return [total for _, total in self._window.samples()]

    def rate(self) -> float:
        """Requests per second over the last RATE_S."""
        return self._window.rate()

    def _new_outcome(self, protocol: str, code: str) -> None:
        key = (protocol, code) if len(self.outcomes) < MAX_OUTCOMES else ("other", "other")
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    @property
    def requests(self) -> int:
        """All since the version was first loaded."""
        return sum(list(self.outcomes.values()))


class MqttCounts:
    """Of the link to a broker. `dropped` counts by the reason for which a message got no answer; bounded by who counts."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.link: Callable[[], tuple[bool, int, int, int]] = lambda: (False, 0, 0, 0)

    def watch(self, link: Callable[[], tuple[bool, int, int, int]]) -> None:
        """Whom to ask at a scrape: whether it is connected, and messages received, sent, and not sent after all."""
        self.link = link

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Metrics:
    """Everything that is counted. One for a server; made by the app and handed in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, tfserving: bool = False) -> None:
        """`clock`: seconds, monotonic. `tfserving`: count under TensorFlow Serving's names as well."""
        self._clock = clock
        self._count_tfserving = tfserving
        self._versions: dict[str, dict[int, VersionMetrics]] = {}
        self._exposition: Exposition | None = None
        self.refusals: dict[tuple[str, str], int] = {}
        self.swaps: dict[str, int] = {OK: 0, "failed": 0}  # from 0 on: what begins at 1 has not grown, for Prometheus
        self.swap_seconds = Histogram(SWAP_BUCKETS_S)
        self.tfserving: dict[str, ModelCounts] = {}
        self.mqtt: MqttCounts | None = None  # where there is a broker
        self.routings: dict[str, RoutingCounts] = {}  # of models that have weights or a shadow
        self.statuses: Callable[[], Sequence[ModelStatus]] = tuple

    def watch(self, statuses: Callable[[], Sequence[ModelStatus]]) -> None:
        """Whom to ask for states, devices and queue depths at a scrape, in its thread: the catalog's `models`."""
        self.statuses = statuses

    def version(self, model: str, version: int) -> VersionMetrics:
        """The counters of a version that is being loaded; those it had, if it was loaded before.

        Of versions that are loaded no more, the last MAX_PAST_VERSIONS of a model are kept."""
        known = self._versions.setdefault(model, {})
        counters = known.pop(version, None) or VersionMetrics(
            model, version, clock=self._clock, tfserving=self._tfserving_of(model)
        )
        if len(known) >= MAX_PAST_VERSIONS:
            loaded = loaded_of(self.statuses())
            past = [number for number in known if (model, number) not in loaded]
            for number in past[: max(0, len(past) - MAX_PAST_VERSIONS + 1)]:
                del known[number]
        known[version] = counters
        return counters

    def routing(self, model: str) -> RoutingCounts:
        """The counters of a model that has weights or a shadow; those it had, if it had any before."""
        from edge.telemetry.routing import RoutingCounts

        return self.routings.setdefault(model, RoutingCounts())

    def versions(self) -> list[VersionMetrics]:
        """Every version whose counters are kept, by model and then in the order of loading."""
        return [counters for _, known in sorted(self._versions.copy().items()) for counters in known.copy().values()]

    def refused(self, protocol: str, code: str) -> None:
        """A request that never came to a version: an unknown model, a bad token, a full server."""
        key = (protocol, code)
        if key not in self.refusals and len(self.refusals) >= MAX_OUTCOMES:
            key = ("other", "other")
        self.refusals[key] = self.refusals.get(key, 0) + 1

    def swapped(self, seconds: float, ok: bool) -> None:
        """A version took over or failed to, `seconds` after its load began. Only what took over is timed."""
        result = "ok" if ok else "failed"
        self.swaps[result] = self.swaps.get(result, 0) + 1
        if ok:
            self.swap_seconds.observe(seconds)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body of /metrics: OpenMetrics where `accept` asks for it, else Prometheus' text format.

        Blocks for some milliseconds, and reads /proc and /sys: call it in a thread.
        """
        if self._exposition is None:
            from edge.telemetry.exposition import Exposition  # the first scrape pays for the import, not the start

            self._exposition = Exposition(self)
        return self._exposition.render(accept)

    def render_tfserving(self) -> bytes:
        """The same in TensorFlow Serving's names; empty of counts unless they were asked for at the start."""
        from edge.telemetry.tfserving import render

        return render(self.tfserving, self.refusals)

    def snapshot(self) -> Mapping[str, Mapping[str, float]]:
        """For the page, by model: requests per second, and percentiles of the latency over WINDOW_S, seconds."""
        models: dict[str, Mapping[str, float]] = {}
        for name, known in sorted(self._versions.copy().items()):
            versions = list(known.copy().values())
            totals = sorted(total for counters in versions for total in counters.latencies())
            models[name] = {
                "rate": round(sum(counters.rate() for counters in versions), 3),
                "p50_s": percentile(totals, 0.5),
                "p99_s": percentile(totals, 0.99),
            }
        return models

    def _tfserving_of(self, model: str) -> ModelCounts | None:
        if not self._count_tfserving:
            return None
        from edge.telemetry.tfserving import ModelCounts

        return self.tfserving.setdefault(model, ModelCounts())


def loaded_of(statuses: Sequence[ModelStatus]) -> set[tuple[str, int]]:
    """The versions that take up memory now."""
    return {
        (model.name, version.id.version)
        for model in statuses
        for version in model.versions
        if version.state not in ENDED
    }
