"""SavedModels pass their tests where TensorFlow is."""

from __future__ import annotations

import pytest

from tests.functional.apart import passes_apart


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_saved_models_pass_their_tests_on_tensorflow() -> None:
    await passes_apart("tests/on_tensorflow.py", limit_s=870.0)
