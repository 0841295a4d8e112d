"""A bar for a terminal, lines for everything else, nothing where nothing was asked for."""

from __future__ import annotations

import io

import pytest

from sync.cli.progress import Bar, Lines, shown
from sync.fleet.progress import Quiet


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_a_terminal_that_knows_control_characters_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(shown(quiet=False, stream=Terminal()), Bar)
    assert isinstance(shown(quiet=False, stream=io.StringIO()), Lines)
    assert isinstance(shown(quiet=True, stream=Terminal()), Quiet)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(shown(quiet=False, stream=Terminal()), Lines)


def test_lines_come_every_ten_seconds_and_at_the_end() -> None:
    out, ticks = io.StringIO(), Ticks()
    lines = Lines(out, ticks)
    lines.begin("blobs", 2048, in_bytes=True)
    lines.step(512)
    ticks.now = 11.0
    lines.step(512)
    lines.step(1024)
    lines.end()
    lines.end()
    assert out.getvalue() == "blobs: 1.0 KiB of 2.0 KiB\nblobs: 2.0 KiB of 2.0 KiB\n"


def test_a_bar_fills_and_leaves_its_last_state_on_a_line() -> None:
    out, ticks = Terminal(), Ticks()
    bar = Bar(out, ticks)
    bar.begin("documents", 4)
    for _ in range(4):
        ticks.now += 1
        bar.step()
    bar.end()
    drawn = out.getvalue().split("\r\x1b[K")
    assert "  0%  0 of 4" in drawn[1]
    assert " 50%  2 of 4" in drawn[3]
    assert drawn[-1].endswith("100%  4 of 4\n")


def test_a_bar_is_not_drawn_for_every_step() -> None:
    out = Terminal()
    bar = Bar(out, Ticks())
    bar.begin("blobs", 1000)
    for _ in range(1000):
        bar.step()
    assert out.getvalue().count("\r") == 1


def test_a_stage_of_nothing_is_done() -> None:
    out = Terminal()
    bar = Bar(out, Ticks())
    bar.begin("blobs", 0)
    bar.end()
    assert "100%  0 of 0" in out.getvalue()
