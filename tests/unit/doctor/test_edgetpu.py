"""Edge TPUs, as the system's files say they are: nothing is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import Model
from edge.doctor.children import Died
from edge.doctor.edgetpu import check_edgetpu
from edge.doctor.finding import Finding, Level
from edge.doctor.machine import Machine
from tests.unit.doctor.board import Board

TPU = {"det": Model(path=Path("/nowhere"), device="usb:0")}


def loaded(what: str) -> dict[str, Any]:
    assert what == "library"
    return {"library": "libedgetpu.so.1"}


def missing(what: str) -> dict[str, Any]:
    raise Died("OSError: libedgetpu.so.1: cannot open shared object file")


def found(machine: Machine, models: dict[str, Model], run: Any = loaded) -> list[Finding]:
    return list(check_edgetpu(machine, models, run))


def test_without_a_device_and_without_a_model_for_one_nothing_is_asked(board: Board) -> None:
    (only,) = found(board.machine(), {"m": Model(path=Path("/m"))}, missing)
    assert only.level is Level.OK


def test_a_device_that_a_model_asks_for_and_that_is_absent_fails_unless_a_twin_serves(
    board: Board, tmp_path: Path
) -> None:
    first = found(board.machine(), TPU)[0]
    assert (first.level, "det (usb:0)" in first.text, "--device" in first.do) == (Level.FAIL, True, True)
    (tmp_path / "det/1").mkdir(parents=True)
    (tmp_path / "det/1/model_cpu.tflite").touch()
    for twin in (
        Model(path=tmp_path / "det", device="edgetpu"),
        Model(path=Path("/m"), device="edgetpu", cpu_twin=tmp_path / "det/1/model_cpu.tflite"),
    ):
        assert found(board.machine(), {"det": twin})[0].level is Level.WARN
    lost = Model(path=Path("/m"), device="edgetpu", cpu_twin=tmp_path / "gone")
    assert found(board.machine(), {"det": lost})[0].level is Level.FAIL


@pytest.mark.parametrize(("vendor", "product"), [("1a6e", "089a"), ("18d1", "9302")])
def test_a_device_is_known_before_and_after_it_got_its_firmware(board: Board, vendor: str, product: str) -> None:
    board.usb("1-1", vendor, product, 4)
    board.usb("1-2", "046d", "c31c", 5)
    levels = [(each.level, each.text) for each in found(board.machine(), TPU)]
    assert [level for level, _ in levels] == [Level.OK, Level.OK]
    assert "001/004" in levels[0][1]


def test_each_of_several_devices_is_told(board: Board) -> None:
    board.usb("1-1", "18d1", "9302", 4)
    board.usb("1-2", "1a6e", "089a", 5)
    board.put("dev/apex_0")
    assert len(found(board.machine(), TPU)) == 4


def test_a_device_that_this_user_may_not_use_fails_with_its_group(board: Board) -> None:
    node = board.usb("1-1", "18d1", "9302", 4)
    first = found(board.machine(access=lambda path, mode: path != node), {})[0]
    assert (first.level, "group" in first.text, "udev" in first.do) == (Level.FAIL, True, True)


def test_a_device_whose_file_is_not_handed_in_fails(board: Board) -> None:
    board.usb("1-1", "18d1", "9302", 4, node=False)
    first = found(board.machine(), {})[0]
    assert (first.level, "DeviceAllow" in first.do) == (Level.FAIL, True)


def test_a_card_without_its_driver_is_a_warning(board: Board) -> None:
    board.put("sys/bus/pci/devices/0000:01:00.0/vendor", "0x1ac1\n")
    board.put("sys/bus/pci/devices/0000:01:00.0/device", "0x089a\n")
    assert found(board.machine(), {})[0].do == "install gasket-dkms"
    board.put("dev/apex_0")
    assert [each.level for each in found(board.machine(), {})] == [Level.OK, Level.OK]


def test_a_library_that_is_missing_fails_only_where_a_model_wants_it(board: Board) -> None:
    board.usb("1-1", "18d1", "9302", 4)
    assert found(board.machine(), {}, missing)[-1].level is Level.WARN
    assert found(board.machine(), TPU, missing)[-1].level is Level.FAIL
