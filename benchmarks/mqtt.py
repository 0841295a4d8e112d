"""MQTT round trips of the server beside a responder of forty lines, on the same Mosquitto, in one run.

    python -m benchmarks.mqtt [--only WORD] [--seconds S] [--rounds N] [--asleep]

Rule 1: only ratios are held to; the server and both responders are measured in turns, round by round.
Rule 2: every answer is checked, and one that is wrong or does not come ends the run.
Rule 3: cores are kept awake, so that what it costs to wake one is on neither side (docs/adr/0009-awake.md).
`CPU`: the server's processor time for a message, less the inference, over the echo's. The inference is what a responder takes
more than the echo once it runs the model on each payload: between messages a run takes longer than in a loop of its own,
and leaves its caches to whoever is next. `rate`, round trips a second over the echo's, is there to compare.
W is how many requests are out at once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import models
from benchmarks.awake import awake
from benchmarks.models import Measured
from benchmarks.mqtt_load import Generator, Seen
from benchmarks.rows.bench import answer_of, cpu_s
from tests.functional.broker import running_broker
from tests.functional.server import serving
from tests.system import PROGRAMS

BOUND = 1.5
NODE, ECHO, LIKE = "bench", "echo/v1", "like/v1"
WARM_S = 0.3
SETTINGS = "log_type error\nmax_queued_messages 10000"
"""Of the broker: what it logs would be on neither side, and takes its time from both."""


@dataclass(frozen=True)
class Case:
    """Requests of one model's tensor as it lies in memory."""

    model: str
    qos: int
    window: int

    @property
    def figure(self) -> str:
        return f"{self.model}, QoS {self.qos}, W={self.window}"


CASES = [
    *(Case("tiny", qos, window) for qos in (0, 1) for window in (1, 16)),
    *(Case("small", qos, 16) for qos in (0, 1)),
]


@dataclass(frozen=True)
class Round:
    """CPU in microseconds a message; `like_us` is that of the responder which runs the model."""

    ours_us: float
    like_us: float
    echo_us: float
    ours: Seen
    echo: Seen

    @property
    def inference_us(self) -> float:
        return self.like_us - self.echo_us

    @property
    def cpu(self) -> float:
        return (self.ours_us - self.inference_us) / self.echo_us

    @property
    def rate(self) -> float:
        return self.ours.per_s / self.echo.per_s


def main() -> int:
    options = _options()
    missed = 0
    program = PROGRAMS["mosquitto"].path
    if program is None:
        print("no Mosquitto: nothing is measured", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch, running_broker(program, Path(scratch), more=SETTINGS) as broker:
        known, port = models.write(Path(scratch)), broker.port
        print(
            f"{'requests':24} {'CPU':>6} {'held to':>8}  {'spread':14} {'rate':>6}   µs of CPU a message, p50 and per second"
        )
        with (
            nullcontext() if options.asleep else awake(),
            _served(Path(scratch), port, known) as ours,
            _responder(port, ECHO) as echo,
        ):
            for case in CASES:
                if options.only in case.figure:
                    with _responder(port, LIKE, known[case.model].path) as like:
                        rounds = list(_rounds(case, known[case.model], port, (ours, like, echo), options))
                    missed += not _say(case, rounds)
    return 1 if missed else 0


def _rounds(
    case: Case, model: Measured, port: int, pids: tuple[int, int, int], options: argparse.Namespace
) -> Iterator[Round]:
    payload = model.picture().tobytes()
    kind = "application/octet-stream"
    ours = Generator(port, f"edge/v1/{NODE}/infer/{model.name}", payload, qos=case.qos, content_type=kind)
    like, echo = (Generator(port, topic, payload, qos=case.qos, content_type=kind) for topic in (LIKE, ECHO))
    for each in (ours, like, echo):
        each.run(case.window, WARM_S)
    assert ours.right is not None
    right = answer_of(model)
    if not ours.right.endswith(right.tobytes()) or not like.right == echo.right == payload:
        raise RuntimeError(f"{case.figure}: want {np.array(right).tolist()}, got {ours.right[:200]!r}")
    for _ in range(options.rounds):
        echo_us, echoed = _cpu_us(pids[2], echo, case.window, options.seconds)
        like_us, _ = _cpu_us(pids[1], like, case.window, options.seconds)
        ours_us, answered = _cpu_us(pids[0], ours, case.window, options.seconds)
        yield Round(ours_us, like_us, echo_us, answered, echoed)
    for each in (ours, like, echo):
        each.close()


def _cpu_us(pid: int, generator: Generator, window: int, seconds: float) -> tuple[float, Seen]:
    before = cpu_s(pid)
    seen = generator.run(window, seconds)
    return (cpu_s(pid) - before) / len(seen.took) * 1e6, seen


def _say(case: Case, rounds: list[Round]) -> bool:
    """Whether the figure is within its bound."""
    cpu = statistics.median(one.cpu for one in rounds)
    rate = statistics.median(one.rate for one in rounds)
    spread = f"{min(one.cpu for one in rounds):.2f} … {max(one.cpu for one in rounds):.2f}"
    last = rounds[-1]
    sides = "; ".join(
        f"{name} {statistics.median(us):.0f} µs, {statistics.median(seen.took) * 1e3:.2f} ms, {seen.per_s:.0f}/s"
        for name, us, seen in (
            ("ours", [one.ours_us for one in rounds], last.ours),
            ("echo", [one.echo_us for one in rounds], last.echo),
        )
    )
    inference = statistics.median(one.inference_us for one in rounds)
    met = cpu <= BOUND
    print(
        f"{case.figure:24} {cpu:5.2f}× ≤{BOUND:6.2f}×  {spread:14} {rate:5.2f}×   {sides}; "
        f"inference {inference:.0f} µs"
        f"{'' if met else '  MISSED'}",
        flush=True,
    )
    return met


@contextmanager
def _served(scratch: Path, port: int, known: dict[str, Measured]) -> Iterator[int]:
    """The process id of a server on the broker, with the models that are asked."""
    names = {case.model for case in CASES}
    arguments = [argument for name in sorted(names) for argument in ("--model", f"{name}={known[name].path}")]
    for key, value in (("host", "127.0.0.1"), ("port", port), ("node", NODE)):
        arguments += ["--set", f"mqtt.{key}={value}"]
    with serving(scratch, *arguments) as running:
        yield running.process.pid


@contextmanager
def _responder(port: int, topic: str, *model: Path) -> Iterator[int]:
    """The process id of `benchmarks.mqtt_echo`, once it listens."""
    command = [sys.executable, "-m", "benchmarks.mqtt_echo", str(port), topic, *map(str, model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        with process.stdout as said:
            if said.readline() != "subscribed\n":
                raise RuntimeError("the responder did not come up")
            yield process.pid
    finally:
        process.kill()
        process.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="only the requests whose name holds it")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in each round")
    parser.add_argument("--rounds", type=int, default=5, help="each measures both sides")
    parser.add_argument("--asleep", action="store_true", help="let cores sleep when nothing wants them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
