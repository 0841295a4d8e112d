"""The worker: `python -m edge.backends.worker.child PARENT_PID FILE module:function`.

`module:function` prepares: it imports the runtime, and returns what loads a job. A job becomes a `Computing`. FILE is the
socket to the server; a line comes through it for each caller, and is served in a thread.

Rule 1: it ends when the server does, whatever it is doing: by the kernel's signal, and when the line closes. Rule 2: what
cannot be loaded is Refused with the reason; what fails in a run is Failed with a code. Any other end is a crash, and the
server words it. Rule 3: it steps back behind the server's requests while it loads, where it may come forward again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path

from edge.backends.worker.arena import Arena, Full, pack, unpack
from edge.backends.worker.line import Line
from edge.backends.worker.messages import (
    BAD_OUTPUTS,
    MAX_REASON_CHARS,
    Attach,
    Begin,
    Call,
    Failed,
    Garbage,
    Loaded,
    Message,
    Prepared,
    Ran,
    Refused,
    Run,
)
from edge.backends.worker.program import Broken, Computing, Load
from edge.children import die_with, memory_bytes
from edge.domain.errors import Code, EdgeError, LoadError

NICENESS = 19
GARBAGE, BROKEN = 76, 70
"""Exit codes: the server said what makes no sense; the runtime can no longer be trusted."""
_CAP_SYS_NICE = 23


def main(argv: list[str]) -> int:
    die_with(int(argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    file = int(argv[2])
    os.set_inheritable(file, False)
    line = Line(socket.socket(fileno=file))
    # What a library prints goes where complaints go.
    os.dup2(2, 1)
    niceness = Niceness()
    begin = line.hear()
    if not isinstance(begin, Begin):
        return GARBAGE
    if begin.idle:
        stay_idle()
    niceness.step_back()
    try:
        model = _load(argv[3], begin, line)
    except LoadError as error:
        line.say(Refused(str(error)[:MAX_REASON_CHARS]))
        return 0
    niceness.come_forward()
    calls = tuple(Call.of(signature) for signature in model.signatures.values())
    line.say(Loaded(calls, model.device, model.notice, model.max_batch))
    _serve_lines(line, model, begin.tensor_bytes)
    return GARBAGE


def _load(program: str, begin: Begin, line: Line) -> Computing:
    """Raises LoadError."""
    module, _, name = program.partition(":")
    try:
        load: Load = getattr(import_module(module), name)()
        line.say(Prepared(memory_bytes("VmRSS")))
        return load(begin.job)
    except LoadError:
        raise
    except MemoryError:
        raise LoadError("not enough memory") from None
    except Exception as error:  # whatever a runtime raises: the process is its own
        raise LoadError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _serve_lines(line: Line, model: Computing, tensor_bytes: int) -> None:
    """Until the server has gone."""
    with contextlib.suppress(Garbage):
        while True:
            try:
                message = line.hear()
            except (EOFError, OSError):
                os._exit(0)  # a run that hangs, or a destructor, keeps no memory
            if not isinstance(message, Attach):
                return
            caller = Line(socket.socket(fileno=line.take_file()))
            threading.Thread(target=serve, args=(caller, model, tensor_bytes), daemon=True).start()


def serve(line: Line, model: Computing, tensor_bytes: int) -> None:
    """One caller, until it has gone."""
    arenas: dict[int, Arena] = {}
    try:
        while True:
            run = line.hear()
            if not isinstance(run, Run):
                raise Garbage(type(run).__name__)
            answer = _answer(_arena(run, line, arenas, tensor_bytes), run, model)
            line.say(answer)
            if isinstance(answer, Failed) and answer.last:
                print(answer.reason, file=sys.stderr, flush=True)
                os._exit(BROKEN)
    except Garbage as garbage:
        print(f"the server said what makes no sense: {garbage}", file=sys.stderr, flush=True)
        os._exit(GARBAGE)
    except (EOFError, OSError):
        line.close()
        for arena in arenas.values():
            arena.close()


def _arena(run: Run, line: Line, arenas: dict[int, Arena], tensor_bytes: int) -> Arena:
    """The run's own. Raises Garbage, OSError."""
    for number in run.forget:
        if (old := arenas.pop(number, None)) is not None:
            old.close()
    if run.arena not in arenas:
        arenas[run.arena] = Arena(line.take_file(), run.arena, max_bytes=tensor_bytes)
    arenas[run.arena].follow(run.arena_bytes)
    return arenas[run.arena]


def _answer(arena: Arena, run: Run, model: Computing) -> Message:
    """Raises Garbage."""
    try:
        inputs = unpack(arena.bytes(), run.inputs, copy=model.keeps_inputs)
        places, _ = pack(arena, model.run(run.signature, inputs), run.free_at)
        return Ran(places, arena.size)
    except EdgeError as error:
        return Failed(error.code.value, error.message[:MAX_REASON_CHARS], isinstance(error, Broken))
    except Full as error:
        return Failed(BAD_OUTPUTS, f"outputs: {error}")
    except (OSError, MemoryError):
        return Failed(Code.OVERLOADED.value, "not enough memory for the outputs")
    except Garbage:
        raise
    except Exception as error:  # a bug in a program is told as what it is, and fails the run
        return Failed(Code.INFERENCE_FAILED.value, f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS])


class Niceness:
    """Nothing here is ever fatal: a sandbox may refuse all of it.

    Who may not lower its niceness again (no CAP_SYS_NICE, RLIMIT_NICE 0) stays where it is: runs count more than loads.
    """

    def __init__(self) -> None:
        self._before = os.getpriority(os.PRIO_PROCESS, 0)
        self._stepped = False

    def step_back(self) -> None:
        if _may_be_at(self._before):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
                self._stepped = True

    def come_forward(self) -> None:
        """Every thread that there is: they took over the niceness of who started them."""
        if self._stepped:
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, int(task.name), self._before)


def stay_idle() -> None:
    """This thread, and all that it starts from now on, for good: it is given what no other process wants."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _may_be_at(niceness: int) -> bool:
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if soft == resource.RLIM_INFINITY or niceness >= 20 - soft:
        return True
    return bool(_capabilities() >> _CAP_SYS_NICE & 1)


def _capabilities() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
