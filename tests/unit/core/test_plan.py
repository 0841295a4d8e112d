from __future__ import annotations

import pytest

from edge.core.lanes import LanePlan
from edge.core.plan import NO_LIMIT, plan_lanes
from edge.domain.models import ModelOptions


def plan(
    run_s: float, *, elements: int = 100, device: str = "cpu", may_run_long: bool = False, **options: object
) -> LanePlan:
    return plan_lanes(
        ModelOptions(**options),  # type: ignore[arg-type]
        device=device,
        run_s=run_s,
        elements=elements,
        may_run_long=may_run_long,
        inline_run_s=300e-6,
        alone_run_s=10e-3,
        cores=4,
    )


@pytest.mark.parametrize(
    ("run_s", "want"),
    [
        (2**-17, LanePlan(1, 3_932, True, 131_072)),
        (2**-12, LanePlan(3, 122, False, 4_096)),
        (4e-3, LanePlan(4, alone_elements=250)),
        (10e-3, LanePlan(4, alone_elements=100)),
        (11e-3, LanePlan(4)),
    ],
)
def test_the_longer_a_run_the_farther_from_the_event_loop(run_s: float, want: LanePlan) -> None:
    assert plan(run_s) == want


def test_what_may_hang_or_is_told_to_stays_off_the_loop() -> None:
    assert plan(10e-6, may_run_long=True) == LanePlan(4)
    assert plan(10e-6, lane="thread") == LanePlan(4)
    assert plan(10e-6, device="usb:0") == LanePlan(1)


def test_what_is_told_to_stays_on_the_loop() -> None:
    assert plan(1.0, lane="inline") == LanePlan(0, NO_LIMIT, True)


def test_a_plan_says_itself() -> None:
    assert [str(plan(run_s)) for run_s in (10e-6, 4e-3, 1.0)] == [
        "on the event loop and 1 thread",
        "on 4 threads, on the event loop for a client that is alone",
        "on 4 threads",
    ]
    assert str(plan(1.0, lane="inline")) == "on the event loop"
