"""Files of tokens and certificates that are none: an error at once, and nothing that is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.frontends.http.guard import read_tokens
from edge.frontends.http.tls import Certificates


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.timeout(10)
def test_tokens_are_not_waited_for(pipe: Path) -> None:
    with pytest.raises(OSError, match="want a file"):
        read_tokens(pipe)


@pytest.mark.timeout(10)
def test_a_certificate_is_not_waited_for(pipe: Path) -> None:
    with pytest.raises(OSError, match="want a file"):
        Certificates(pipe, None)
