"""Checks of Edge TPUs: whether they are plugged in, whose they are, and whether their library can be loaded.

Rule 1: no device is opened: it is the server's. Rule 2: what nobody asked for is no fault: without a model that names a
device, a missing one is well.
USB ids: 1a6e:089a before the library gave the device its firmware, 18d1:9302 from then on: a udev rule must name both.
https://coral.ai/docs/accelerator/get-started/ and https://coral.ai/docs/m2/get-started/
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.config import Model
from edge.doctor.children import Died, probe
from edge.doctor.finding import Finding, fail, ok, warn
from edge.doctor.machine import Machine

USB_IDS = frozenset({("1a6e", "089a"), ("18d1", "9302")})
PCI_ID = ("0x1ac1", "0x089a")
RULE = "install docs/coral.md's udev rule, put the server's user into the group, and plug the device in again"


def check_edgetpu(
    machine: Machine, models: Mapping[str, Model], run: Callable[[str], dict[str, Any]] = probe
) -> Iterator[Finding]:
    """`run` is asked for "library", where there is a device or a model that wants one."""
    wanting = {name: model for name, model in models.items() if model.device != "cpu"}
    usb, pci, cards = usb_nodes(machine), pci_nodes(machine), pci_cards(machine)
    if cards > len(pci):
        yield warn(
            "edgetpu",
            f"{cards} on PCI and {len(pci)} of them at /dev/apex_*: the driver is not loaded",
            "install gasket-dkms",
        )
    elif not usb and not pci:
        yield _absent(wanting)
    for node in (*usb, *pci):
        yield _permission(machine, node)
    if wanting or usb or pci:
        yield _library(run, needed=bool(wanting))


def usb_nodes(machine: Machine) -> list[Path]:
    """The device files of the accelerators on USB."""
    found = []
    for name in machine.names("sys/bus/usb/devices"):
        place = f"sys/bus/usb/devices/{name}"
        if (machine.text(place, "idVendor"), machine.text(place, "idProduct")) not in USB_IDS:
            continue
        bus, number = machine.text(place, "busnum") or "", machine.text(place, "devnum") or ""
        if bus.isdecimal() and number.isdecimal():
            found.append(machine.path("dev/bus/usb", f"{int(bus):03}", f"{int(number):03}"))
    return found


def pci_nodes(machine: Machine) -> list[Path]:
    return [machine.path("dev", name) for name in machine.names("dev") if name.startswith("apex_")]


def pci_cards(machine: Machine) -> int:
    places = [f"sys/bus/pci/devices/{name}" for name in machine.names("sys/bus/pci/devices")]
    return sum((machine.text(each, "vendor"), machine.text(each, "device")) == PCI_ID for each in places)


def _absent(wanting: Mapping[str, Model]) -> Finding:
    if not wanting:
        return ok("edgetpu", "none is there, and no model asks for one")
    names = ", ".join(f"{name} ({model.device})" for name, model in wanting.items())
    alone = [name for name, model in wanting.items() if not _has_twin(model)]
    text = f"none is there, on USB or at /dev/apex_*, and it is asked for by {names}"
    do = "plug it in; in a container hand it in with --device /dev/bus/usb or --device /dev/apex_0"
    if alone:
        return fail("edgetpu", f"{text}; without a CPU twin: {', '.join(alone)}", do)
    return warn("edgetpu", f"{text}; their CPU twins serve", do)


def _has_twin(model: Model) -> bool:
    if model.cpu_twin is not None:
        return model.cpu_twin.is_file()
    try:
        return any(model.path.glob("*/model_cpu.tflite"))
    except OSError:
        return False


def _permission(machine: Machine, node: Path) -> Finding:
    try:
        found = node.stat()
    except OSError as error:
        do = "hand it in: --device /dev/bus/usb for a container, DeviceAllow= for a unit"
        return fail("edgetpu", f"{node}: it is plugged in, and its device file is not here: {error.strerror}", do)
    group = _group(found.st_gid)
    if not machine.access(node, os.R_OK | os.W_OK):
        return fail(
            "edgetpu", f"{node} (group {group}, mode {found.st_mode & 0o777:o}): may not be read and written", RULE
        )
    return ok("edgetpu", f"{node} (group {group}) may be used")


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _library(run: Callable[[str], dict[str, Any]], *, needed: bool) -> Finding:
    try:
        found = run("library")
    except Died as died:
        text, do = f"its library cannot be loaded: {died}", "install libedgetpu1-std, or set EDGE_EDGETPU_LIBRARY"
        return fail("edgetpu", text, do) if needed else warn("edgetpu", text, do)
    return ok("edgetpu", f"{found['library']} can be loaded")
