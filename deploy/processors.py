"""Writes what the kernel of a small board says of its processors: four Cortex-A72, as a Raspberry Pi 4 has them.

    python deploy/processors.py DIRECTORY

makes `proc/cpuinfo` and `sys/devices/system/cpu` in DIRECTORY. An emulated process otherwise sees those of the machine
that emulates: it takes its kernels for other processors than it has, and LiteRT 2.3 crashes on some of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

EMULATED = "cortex-a72"
"""What qemu calls it (`-cpu`, `QEMU_CPU`). Its default has SVE, with which qemu 7.2 and XNNPACK compute wrong results."""
CORES = 4
CPUINFO = """processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def describe(place: Path) -> None:
    """Raises OSError."""
    everyone = f"0-{CORES - 1}\n"
    cpu = place / "sys" / "devices" / "system" / "cpu"
    files = {cpu / name: everyone for name in ("possible", "present", "online")} | {cpu / "kernel_max": "255\n"}
    for core in range(CORES):
        topology = cpu / f"cpu{core}" / "topology"
        lists = ("core_siblings_list", "package_cpus_list", "cluster_cpus_list")
        files |= {topology / name: everyone for name in lists}
        files |= {topology / "physical_package_id": "0\n", topology / "cluster_id": "0\n"}
        files |= {topology / "core_id": f"{core}\n", topology / "thread_siblings_list": f"{core}\n"}
    files[place / "proc" / "cpuinfo"] = "".join(CPUINFO.format(core=core) for core in range(CORES))
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    describe(Path(sys.argv[1]))
