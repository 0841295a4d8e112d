"""Buckets for all tests, and no keys but theirs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.sync.subjects import Subject, subject
from tests.fakes.sync.bucket import Buckets
from tests.fakes.sync.bucket import buckets as served


@pytest.fixture(scope="session")
def _buckets() -> Iterator[Buckets]:
    with served() as serving:
        yield serving


@pytest.fixture
def buckets(_buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return _buckets


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path, buckets: Buckets) -> AsyncIterator[Subject]:
    async with subject(request.param, tmp_path, buckets) as made:
        yield made
