"""The processor and the memory, as files say they are."""

from __future__ import annotations

import pytest

from edge.doctor.cpu import check_cpu, check_memory, free_memory
from edge.doctor.finding import Level
from edge.doctor.machine import MIB, amount
from tests.unit.doctor.board import X86, Board


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [(None, "2 cores with NEON, dot products, float16"), (X86, "1 cores with AVX2, VNNI")],
)
def test_a_processor_that_can_be_seen_is_told_with_what_makes_models_fast(
    board: Board, cpuinfo: str | None, words: str
) -> None:
    if cpuinfo:
        board.put("proc/cpuinfo", cpuinfo)
    found = check_cpu(board.machine())
    assert found.level is Level.OK
    assert words in found.text


def test_a_hidden_cpuinfo_fails_and_names_the_units_key(board: Board) -> None:
    (board.root / "proc/cpuinfo").unlink()
    found = check_cpu(board.machine())
    assert found.level is Level.FAIL
    assert "not there" in found.text
    assert "ProcSubset=pid" in found.do
    board.put("proc/self/mountinfo", "24 23 0:22 / /proc rw - proc proc rw,subset=pid")
    assert "subset=pid" in check_cpu(board.machine()).text


def test_an_empty_cpuinfo_is_as_bad_as_none(board: Board) -> None:
    board.put("proc/cpuinfo", "")
    assert check_cpu(board.machine()).level is Level.FAIL


@pytest.mark.parametrize("gone", ["vectors", "sys"])
def test_what_makes_models_slower_is_a_warning(board: Board, gone: str) -> None:
    if gone == "sys":
        (board.root / "sys/devices/system/cpu/possible").unlink()
    else:
        board.put("proc/cpuinfo", "processor : 0\nFeatures : half thumb\n")
    assert check_cpu(board.machine()).level is Level.WARN


def test_memory_is_what_the_machine_and_every_group_above_leave(board: Board) -> None:
    assert free_memory(board.machine()) == 1024000 * 1024
    board.put("proc/self/cgroup", "0::/system.slice/edge.service\n")
    board.put("sys/fs/cgroup/system.slice/memory.max", "max")
    board.put("sys/fs/cgroup/system.slice/memory.current", "7")
    board.put("sys/fs/cgroup/system.slice/edge.service/memory.max", str(300 * MIB))
    board.put("sys/fs/cgroup/system.slice/edge.service/memory.current", str(100 * MIB))
    assert free_memory(board.machine()) == 200 * MIB
    board.put("sys/fs/cgroup/system.slice/memory.max", str(50 * MIB))
    found = check_memory(board.machine(), ())
    assert (found.level, "50.0 MiB" in found.text) == (Level.WARN, True)


def test_a_model_of_which_two_do_not_fit_is_told_how_to_swap(board: Board) -> None:
    assert check_memory(board.machine(), [10 * MIB]).level is Level.OK
    found = check_memory(board.machine(), [10 * MIB, 900 * MIB])
    assert (found.level, "replace" in found.do) == (Level.WARN, True)


def test_a_machine_that_says_nothing_of_its_memory_is_a_warning(board: Board) -> None:
    (board.root / "proc/meminfo").unlink()
    assert check_memory(board.machine(), ()).level is Level.WARN


def test_amounts_are_for_people() -> None:
    assert [amount(each) for each in (0, 1023, 1536, 3 << 20, 5000 << 30)] == [
        "0 B", "1023 B", "1.5 KiB", "3.0 MiB", "5000.0 GiB",
    ]  # fmt: skip
