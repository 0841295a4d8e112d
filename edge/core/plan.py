"""Which lanes a version gets, from its measured run time: pure.

A hop to a thread and back costs about 50 µs of processor time, whatever the model; a run on the event loop keeps
everybody else waiting, and leaves the other cores idle. So: the tiniest always on the loop, the small ones there
while nothing else of theirs is under way, everything else on threads; those of milliseconds on the loop too as long as
there is one client, which nobody else waits behind. Figures: docs/adr/0003-lanes.md.
"""

from __future__ import annotations

from edge.core.devices import CPU
from edge.core.lanes import LanePlan
from edge.domain.models import ModelOptions
from edge.domain.ports import LoadedModel
from edge.domain.requests import default_signature

HOP_S = 100e-6
MAX_AUTO_INSTANCES = 4
NO_LIMIT = 2**62


def plan_lanes(
    options: ModelOptions,
    *,
    device: str,
    run_s: float,
    elements: int,
    may_run_long: bool,
    inline_run_s: float,
    alone_run_s: float,
    cores: int,
) -> LanePlan:
    """`run_s` is what a run of `elements` input elements takes; longer inputs are taken to cost in proportion."""
    if device != CPU:
        # An accelerator runs one thing at a time, and has one lane.
        return LanePlan(threads=1)
    threads = options.instances or min(cores, MAX_AUTO_INSTANCES)
    if options.lane == "inline":
        return LanePlan(threads=options.instances, inline_elements=NO_LIMIT, inline_always=True)
    if options.lane == "thread" or may_run_long or options.allowed_batch_sizes:
        return LanePlan(threads=threads)
    alone_elements = _within(alone_run_s, run_s, elements)
    inline_elements = _within(inline_run_s, run_s, elements)
    if not inline_elements:
        return LanePlan(threads=threads, alone_elements=alone_elements)
    if run_s < HOP_S:
        return LanePlan(
            threads=options.instances or 1,
            inline_elements=inline_elements,
            inline_always=True,
            alone_elements=alone_elements,
        )
    # The event loop is one of the cores that are kept busy.
    threads = options.instances or max(1, threads - 1)
    return LanePlan(threads=threads, inline_elements=inline_elements, alone_elements=alone_elements)


def _within(limit_s: float, run_s: float, elements: int) -> int:
    """How many elements a request may have to run for at most `limit_s`; 0 where one of `elements` takes longer."""
    return max(elements, int(elements * limit_s / max(run_s, 1e-9))) if run_s <= limit_s else 0


def elements_of(model: LoadedModel) -> int:
    """Input elements of a run of zeros, as the self-test times it: one for each open dimension."""
    signature = default_signature(model.signatures)
    total = 0
    for spec in signature.inputs.values():
        size = 1
        for dimension in spec.shape or ():
            size *= max(1, dimension)
        total += size
    return total
