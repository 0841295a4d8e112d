"""Counters and histograms that cost a request less than a microsecond.

Rule 1: counting is integer arithmetic on objects that the caller holds; names, text and locks belong to the scrape.
Rule 2: every set of labels is bounded: nothing that a client sends becomes one.
Rule 3: what can be asked at the scrape is asked then (`watch`), not kept up to date.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge.telemetry.window import RATE_S, WINDOW_S, Recent, Window, percentile

if TYPE_CHECKING:
    from edge.domain.ports import ModelStatus
    from edge.telemetry.exposition import Exposition
    from edge.telemetry.tfserving import ModelCounts

OK = "ok"
INTERNAL = "internal"
FAILURES = frozenset({"inference_failed", INTERNAL})
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SWAP_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
MAX_RETIRED_VERSIONS = 8
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
    """One version's share of the metrics. Held by its slot, so that a request looks nothing up."""

    __slots__ = (
        "_tfserving",
        "device",
        "digest",
        "inference",
        "live",
        "model",
        "outcomes",
        "queue",
        "request",
        "version",
        "window",
    )

    def __init__(
        self, model: str, version: int, *, clock: Callable[[], float], tfserving: ModelCounts | None = None
    ) -> None:
        self.model, self.version = model, version
        self.device, self.digest = "", ""
        self.live = True
        self.outcomes: dict[tuple[str, str], int] = {}
        self.request, self.queue, self.inference = Histogram(), Histogram(), Histogram()
        self.window = Window(clock)
        self._tfserving = tfserving

    def observe(self, protocol: str, code: str, total_s: float, queue_s: float = 0.0, run_s: float = 0.0) -> None:
        """One request, answered (`code` OK) or not (a Code's value, or INTERNAL). Times in seconds.

        `total_s` is the whole time in the server, `queue_s` and `run_s` parts of it, counted only for an answer.
        """
        try:
            self.outcomes[protocol, code] += 1
        except KeyError:
            self._new_outcome(protocol, code)
        # Written out thrice: a call each would cost as much as all the rest.
        histogram = self.request
        histogram.counts[bisect_left(BUCKETS_S, total_s)] += 1
        histogram.sum += total_s
        if code == OK:
            histogram = self.queue
            histogram.counts[bisect_left(BUCKETS_S, queue_s)] += 1
            histogram.sum += queue_s
            histogram = self.inference
            histogram.counts[bisect_left(BUCKETS_S, run_s)] += 1
            histogram.sum += run_s
            self.window.answered(total_s, run_s)
        else:
            self.window.refused(failure=code in FAILURES)
        if self._tfserving is not None:
            self._tfserving.observe(protocol, code, total_s, run_s)

    def non_finite(self) -> None:
        """The answer being observed has a NaN or an infinity in it."""
        self.window.non_finite()

    def recent(self, seconds: float = WINDOW_S) -> Recent:
        """The last `seconds`, for the status."""
        return self.window.recent(seconds)

    def describe(self, *, device: str, digest: str = "") -> None:
        """Labels that are known once the version is loaded; called again when it moves to another device."""
        self.device, self.digest = device, digest or self.digest

    def retire(self) -> None:
        """The version is unloaded. Its counters stay until MAX_RETIRED_VERSIONS later ones are unloaded, too."""
        self.live = False

    def _new_outcome(self, protocol: str, code: str) -> None:
        key = (protocol, code) if len(self.outcomes) < MAX_OUTCOMES else ("other", "other")
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    @property
    def requests(self) -> int:
        """All since the version was first loaded."""
        return sum(list(self.outcomes.values()))

    @property
    def failures(self) -> int:
        """Those of `requests` that the model is to blame for."""
        return sum(count for (_, code), count in list(self.outcomes.items()) if code in FAILURES)


class Metrics:
    """Everything that is counted. One for a server; made by the app and handed in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, tfserving: bool = False) -> None:
        """`clock`: seconds, monotonic. `tfserving`: count under TensorFlow Serving's names as well."""
        self._clock = clock
        self._count_tfserving = tfserving
        self._versions: dict[str, dict[int, VersionMetrics]] = {}
        self._exposition: Exposition | None = None
        self.refusals: dict[tuple[str, str], int] = {}
        self.swaps: dict[str, int] = {}
        self.swap_seconds = Histogram(SWAP_BUCKETS_S)
        self.tfserving: dict[str, ModelCounts] = {}
        self.statuses: Callable[[], Sequence[ModelStatus]] = tuple

    def watch(self, statuses: Callable[[], Sequence[ModelStatus]]) -> None:
        """Whom to ask for states and queue depths at a scrape: the catalog's `models`."""
        self.statuses = statuses

    def version(self, model: str, version: int) -> VersionMetrics:
        """The counters of a version that is being loaded; those it had, if it was loaded before."""
        known = self._versions.setdefault(model, {})
        counters = known.pop(version, None) or VersionMetrics(
            model, version, clock=self._clock, tfserving=self._tfserving_of(model)
        )
        counters.live = True
        known[version] = counters
        retired = [number for number, other in known.items() if not other.live]
        for number in retired[: max(0, len(retired) - MAX_RETIRED_VERSIONS + 1)]:
            del known[number]
        return counters

    def versions(self) -> list[VersionMetrics]:
        """Every version whose counters are kept, by model and then in the order of loading."""
        return [counters for _, known in sorted(self._versions.copy().items()) for counters in known.copy().values()]

    def refused(self, protocol: str, code: str) -> None:
        """A request that never came to a version: an unknown model, a bad token, a full server."""
        key = (protocol, code)
        if key not in self.refusals and len(self.refusals) >= MAX_OUTCOMES:
            key = ("other", "other")
        self.refusals[key] = self.refusals.get(key, 0) + 1

    def swapped(self, result: str, seconds: float) -> None:
        """A change of version is over: `ok`, `failed` or `rolled_back`, from aspired to published."""
        self.swaps[result] = self.swaps.get(result, 0) + 1
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

    def snapshot(self) -> Mapping[str, Any]:
        """For the status page, JSON-able: by model, requests per second, latency, and totals. Times in seconds."""
        models: dict[str, Any] = {}
        for name, known in sorted(self._versions.copy().items()):
            versions = [counters for counters in known.copy().values() if counters.live]
            totals = sorted(total for counters in versions for _, total in counters.window.samples())
            models[name] = {
                "rate": round(sum(counters.window.rate() for counters in versions), 3),
                "p50_s": percentile(totals, 0.5),
                "p99_s": percentile(totals, 0.99),
                "requests": sum(counters.requests for counters in versions),
                "failures": sum(counters.failures for counters in versions),
                "versions": {str(counters.version): counters.requests for counters in versions},
            }
        return {"rate_window_s": RATE_S, "latency_window_s": WINDOW_S, "models": models}

    def _tfserving_of(self, model: str) -> ModelCounts | None:
        if not self._count_tfserving:
            return None
        from edge.telemetry.tfserving import ModelCounts

        return self.tfserving.setdefault(model, ModelCounts())
