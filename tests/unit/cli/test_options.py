"""What is printed steers no terminal, and is still what it was."""

from __future__ import annotations

import json

import pytest

from edge.cli.options import print_json


def test_json_for_a_terminal_steers_none_and_is_read_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"mqtt": "a\x9b31m\x7f\u202e\u2028\ud800\U000e0001\n", "ü": ["é", "日本", "😀"]}
    print_json(value)
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == value
    assert "é" in said
    assert "日本" in said
    assert "😀" in said
