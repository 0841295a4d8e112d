"""A device made of files: what /proc, /sys and /dev say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.doctor.machine import Machine

ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp cpuid asimddp\nprocessor\t: 1\n"
X86 = "processor\t: 0\nflags\t\t: fpu sse2 sse4_1 avx2 avx512_vnni\n"


class Board:
    """All is well on it; a test takes away, or puts, what it is about."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/cpuinfo", ARM)
        self.put("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable:   1024000 kB\n")
        self.put("sys/devices/system/cpu/possible", "0-1")
        self.interface("eth0", flags=0x1003)

    def put(self, path: str, text: str | bytes = "") -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        return place

    def interface(self, name: str, flags: int, index: int = 2, link: int = 2, kind: str = "") -> None:
        place = f"sys/class/net/{name}"
        self.put(f"{place}/flags", f"{flags:#x}\n")
        self.put(f"{place}/ifindex", f"{index}\n")
        self.put(f"{place}/iflink", f"{link}\n")
        self.put(f"{place}/uevent", f"DEVTYPE={kind}\nINTERFACE={name}\n" if kind else f"INTERFACE={name}\n")

    def usb(self, name: str, vendor: str, product: str, number: int, *, node: bool = True) -> Path:
        for file, text in (("idVendor", vendor), ("idProduct", product), ("busnum", "1"), ("devnum", str(number))):
            self.put(f"sys/bus/usb/devices/{name}/{file}", text + "\n")
        place = self.root / f"dev/bus/usb/001/{number:03}"
        return self.put(f"dev/bus/usb/001/{number:03}") if node else place

    def machine(self, access: Callable[[Path, int], bool] = lambda path, mode: True) -> Machine:
        return Machine(self.root, access)
