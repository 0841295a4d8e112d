"""Checks of the processor and the memory.

The runtime's kernels (XNNPACK, ruy) ask the library cpuinfo what the processor can do, and that reads /proc/cpuinfo and
/sys/devices/system/cpu. Where it cannot, they run without vector instructions: an int8 model then takes a hundred times
as long, and nothing but one line on stderr says so. systemd's ProcSubset=pid hides the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.machine import MIB, Machine, amount

LEAST_MEMORY_BYTES = 100 * MIB
"""That should be free: a server with one small model takes 60 MiB, and so does the trial of the next version."""
VECTORS = {"asimd": "NEON", "neon": "NEON", "avx2": "AVX2", "sse4_1": "SSE4.1"}
"""Any of these makes int8 models fast; by their names in /proc/cpuinfo."""
MORE = {
    "asimddp": "dot products",
    "i8mm": "int8 matrices",
    "asimdhp": "float16",
    "avx512_vnni": "VNNI",
    "avx_vnni": "VNNI",
}
SHOW_IT = "take ProcSubset=pid out of the unit, or mount /proc without subset=pid"


def check_cpu(machine: Machine) -> Finding:
    text = machine.text("proc/cpuinfo")
    if not text:
        hidden = "subset=pid" in (machine.text("proc/self/mountinfo") or "")
        why = "/proc is mounted with subset=pid" if hidden else "it is not there, or may not be read"
        return fail(
            "cpu", f"/proc/cpuinfo is hidden ({why}): int8 models run some 100 times slower than they could", SHOW_IT
        )
    cores = max(len(re.findall(r"^processor\s*:", text, re.MULTILINE)), 1)
    if not machine.names("sys/devices/system/cpu"):
        return warn(
            "cpu",
            "/sys/devices/system/cpu is not there: the runtime cannot tell the cores, and may run slower",
            "mount /sys",
        )
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    vectors = [name for flag, name in VECTORS.items() if flag in flags]
    if not vectors:
        return warn("cpu", f"{cores} cores without NEON, SSE4.1 or AVX2: models run without fast kernels")
    more = [name for flag, name in MORE.items() if flag in flags]
    return ok("cpu", f"/proc/cpuinfo can be read: {cores} cores with {', '.join(dict.fromkeys([vectors[0], *more]))}")


def check_memory(machine: Machine, model_bytes: Sequence[int]) -> Finding:
    """`model_bytes`: the size of each model's largest file."""
    free = free_memory(machine)
    if free is None:
        return warn("memory", "/proc/meminfo cannot be read: how much memory is free cannot be told")
    text = f"{amount(free)} are free"
    if free < LEAST_MEMORY_BYTES:
        return warn(
            "memory", f"{text}: want {amount(LEAST_MEMORY_BYTES)} for a server and the trial of a version",
            "end what else runs, or give the container or the unit more",
        )  # fmt: skip
    largest = max(model_bytes, default=0)
    if free < 3 * largest:
        text += f", and the largest model's file has {amount(largest)}: two versions of it at once may not fit"
        return warn("memory", text, 'set models.NAME.swap = "replace"')
    return ok("memory", text)


def free_memory(machine: Machine) -> int | None:
    """Bytes that may yet be taken, by the machine and by every cgroup above this process; None where nobody says."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", machine.text("proc/meminfo") or "", re.MULTILINE)
    if found is None:
        return None
    free = int(found[1]) * 1024
    group = re.search(r"^0::(/.*)$", machine.text("proc/self/cgroup") or "", re.MULTILINE)
    parts = [part for part in group[1].split("/") if part not in ("", "..")] if group else []
    for depth in range(len(parts) + 1):
        place = "/".join(["sys/fs/cgroup", *parts[:depth]])
        limit, used = machine.text(place, "memory.max") or "max", machine.text(place, "memory.current") or "0"
        if limit.isdigit() and used.isdigit():
            free = min(free, max(int(limit) - int(used), 0))
    return free
