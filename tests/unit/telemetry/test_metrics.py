import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge.core.meter import Meter
from edge.domain.errors import Code
from edge.domain.lifecycle import State
from edge.domain.models import ModelId
from edge.domain.ports import ModelStatus, VersionStatus
from edge.telemetry.exposition import Exposition
from edge.telemetry.metrics import CANCELLED, INTERNAL, MAX_OUTCOMES, MAX_PAST_VERSIONS, OK, OWED, Metrics
from edge.telemetry.tfserving import BUCKETS_US, STATUS
from edge.telemetry.window import Totals
from tests.unit.telemetry.clock import Clock


def status(name: str, *versions: tuple[int, State]) -> ModelStatus:
    each = [VersionStatus(ModelId(name, number), state, device="cpu", queue_depth=3) for number, state in versions]
    return ModelStatus(name, each, {})


def samples(metrics: Metrics, accept: str = "") -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """By name, and then by sorted labels."""
    kind, body = metrics.render(accept)
    parse = parse_openmetrics if kind.startswith("application/openmetrics-text") else parse_text
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs.items()))


def test_what_the_core_measures_with_is_what_the_metrics_hand_out() -> None:
    meter = cast(Meter, Metrics().version("m", 1))
    meter.answered("v2", 0.1, 0.02, 0.05, finite=True)
    assert meter.window().requests == 1


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_every_request_is_counted_once_where_it_belongs(accept: str) -> None:
    metrics = Metrics(clock=Clock())
    metrics.watch(lambda: [status("m", (2, State.READY), (1, State.UNLOADED))])
    version = metrics.version("m", 2)
    version.answered("v2", 0.004, 0.001, 0.0025)
    version.answered("v2", 20.0, 0.0, 0.0)
    version.failed("tfserving", "deadline", 30.0)
    metrics.refused("v2", "not_found")
    metrics.swapped(0.3, True)
    metrics.swapped(0.1, False)
    found = samples(metrics, accept)
    assert found["edge_requests_total"] == {
        labels(model="m", version="2", protocol="v2", code="ok"): 2,
        labels(model="m", version="2", protocol="tfserving", code="deadline"): 1,
        labels(model="", version="", protocol="v2", code="not_found"): 1,
    }
    buckets = found["edge_request_seconds_bucket"]
    assert buckets[labels(model="m", version="2", le="0.0025")] == 0
    assert buckets[labels(model="m", version="2", le="0.005")] == 1
    assert buckets[labels(model="m", version="2", le="+Inf")] == 3
    assert found["edge_request_seconds_sum"][labels(model="m", version="2")] == pytest.approx(50.004)
    ran = found["edge_inference_seconds_bucket"]
    assert ran[labels(model="m", version="2", device="cpu", le="0.001")] == 1
    assert ran[labels(model="m", version="2", device="cpu", le="0.0025")] == 2, "a bound belongs to its bucket"
    assert found["edge_queue_seconds_count"][labels(model="m", version="2")] == 2
    assert found["edge_swap_total"] == {labels(result="ok"): 1, labels(result="failed"): 1}
    assert found["edge_swap_seconds_count"] == {(): 1}, "what failed took no time that anybody waited for"


def test_swaps_are_counted_from_0_on_so_that_the_first_that_fails_is_an_increase() -> None:
    assert samples(Metrics())["edge_swap_total"] == {labels(result="ok"): 0, labels(result="failed"): 0}


def test_states_and_queues_are_asked_for_at_the_scrape() -> None:
    metrics = Metrics()
    now: Sequence[ModelStatus] = []
    metrics.watch(lambda: now)
    metrics.version("m", 1)
    assert "edge_model_ready" not in samples(metrics)
    now = [status("m", (2, State.LOADING), (1, State.READY))]
    found = samples(metrics)
    assert found["edge_model_ready"] == {labels(model="m", version="1"): 1, labels(model="m", version="2"): 0}
    assert found["edge_queue_depth"][labels(model="m", version="1")] == 3
    assert found["edge_model_info"] == {labels(model="m", version="1", device="cpu"): 1}


def test_the_process_and_the_build_are_there() -> None:
    found = samples(Metrics())
    assert found["process_resident_memory_bytes"][()] > 0
    assert "python_gc_collections_total" in found
    assert set(dict(next(iter(found["edge_build_info"])))) == {"version", "python"}


def test_temperatures_are_read_where_they_can_be(tmp_path: Path) -> None:
    for zone, kind, reading in [("0", "cpu-thermal\n", "45123\n"), ("1", "gpu\n", "")]:
        (tmp_path / f"thermal_zone{zone}").mkdir()
        (tmp_path / f"thermal_zone{zone}/type").write_text(kind)
        (tmp_path / f"thermal_zone{zone}/temp").write_text(reading)
    (tmp_path / "thermal_zone2").mkdir()
    _, body = Exposition(Metrics(), tmp_path).render("")
    expected = 'edge_device_temperature_celsius{type="cpu-thermal",zone="thermal_zone0"} 45.123'
    assert [line for line in body.decode().splitlines() if line.startswith("edge_device_temp")] == [expected]


def test_labels_are_bounded_whatever_comes() -> None:
    metrics = Metrics()
    version = metrics.version("m", 1)
    for number in range(1000):
        version.failed(f"p{number}", "deadline", 0.1)
        metrics.refused(f"p{number}", "not_found")
    assert len(version.outcomes) == len(metrics.refusals) == MAX_OUTCOMES + 1
    assert version.requests == sum(metrics.refusals.values()) == 1000


def test_of_the_versions_that_went_away_the_last_few_are_kept_and_all_that_are_loaded() -> None:
    metrics = Metrics()
    loaded = [status("m", (1, State.READY), (2, State.DRAINING))]
    metrics.watch(lambda: loaded)
    for number in range(1, 30):
        metrics.version("m", number)
    kept = [counters.version for counters in metrics.versions()]
    assert kept == [1, 2, *range(30 - MAX_PAST_VERSIONS, 30)]


def test_a_version_that_comes_back_goes_on_counting() -> None:
    metrics = Metrics()
    metrics.version("m", 1).answered("v2", 0.1, 0.0, 0.1)
    metrics.version("m", 2)
    metrics.version("m", 1).answered("v2", 0.1, 0.0, 0.1)
    assert [(counters.version, counters.requests) for counters in metrics.versions()] == [(2, 0), (1, 2)]


def test_failures_of_the_model_are_told_from_those_of_its_callers() -> None:
    version = Metrics(clock=Clock()).version("m", 1)
    version.failed("v2", "invalid_input", 0.1)
    version.failed("v2", "inference_failed", 0.1, by_model=True)
    version.answered("v2", 0.1, 0.0, 0.1, finite=False)
    recent = version.window()
    assert (recent.requests, recent.failures, recent.non_finite) == (3, 1, 1)
    assert (version.requests, version.failures, version.non_finite) == (3, 1, 1)


def test_totals_never_fall_while_the_window_forgets() -> None:
    clock = Clock()
    version = Metrics(clock=clock).version("m", 1)
    version.answered("v2", 0.25, 0.125, 0.0625)
    version.failed("v2", "invalid_input", 4.0)
    version.failed("v2", "inference_failed", 0.5, by_model=True)
    clock.now += 1000
    version.answered("v1", 0.25, 0.125, 0.0625)
    assert version.window().requests == 1
    assert version.totals() == Totals(
        requests=4, answered=2, failures=1, unserved=1, answered_s=0.5, queue_s=0.25, run_s=0.125, failures_s=0.5
    )


def test_what_the_server_owes_is_told_by_codes_that_there_are() -> None:
    assert OWED - {INTERNAL} < {code.value for code in Code}


def test_the_page_gets_rate_and_latency_by_model() -> None:
    clock = Clock()
    metrics = Metrics(clock=clock)
    for number in (1, 2):
        version = metrics.version("m", number)
        for _ in range(10):
            version.answered("v2", 0.25, 0.0, 0.2)
    clock.now += 1
    assert metrics.snapshot() == {"m": {"rate": 20.0, "p50_s": 0.25, "p99_s": 0.25}}


def test_tensorflow_servings_names_are_spoken_as_it_does() -> None:
    metrics = Metrics(tfserving=True)
    version = metrics.version('a"b', 1)
    version.answered("tfserving", 0.0001, 0.0, 0.000011)
    version.answered("grpc", 0.002, 0.0, 0.001)
    metrics.version('a"b', 2).failed("tfserving", "invalid_input", 0.1)
    metrics.refused("tfserving", "not_found")
    lines = metrics.render_tfserving().decode().splitlines()
    assert lines[:4] == [
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 1',
        r':tensorflow:serving:request_count{model_name="a\"b",status="INVALID_ARGUMENT"} 1',
        r':tensorflow:serving:request_count{model_name="a\"b",status="OK"} 2',
    ]
    rest = r':tensorflow:serving:request_latency_{}{{model_name="a\"b",API="predict",entrypoint="REST"{}}} {}'
    assert rest.format("bucket", ',le="58.32"', 0) in lines
    assert rest.format("bucket", ',le="104.976"', 1) in lines
    assert rest.format("bucket", ',le="+Inf"', 1) in lines
    assert rest.format("sum", "", 100) in lines
    assert rest.format("count", "", 1) in lines
    assert r':tensorflow:serving:runtime_latency_count{model_name="a\"b",API="Predict",runtime="TF1"} 2' in lines
    assert len(BUCKETS_US) == 33


def test_every_code_has_a_status_of_tensorflow_servings() -> None:
    assert set(STATUS) == {OK, INTERNAL, CANCELLED, *(code.value for code in Code)}


def test_starting_needs_no_prometheus() -> None:
    code = (
        "import sys; from edge.telemetry.metrics import Metrics; v = Metrics().version('m', 1);"
        "v.answered('v2', .1, 0., .1); sys.exit('prometheus_client' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
