"""Tests that need TensorFlow: `python tests/on_tensorflow.py` runs them. Where it is not installed, they are left out."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("tensorflow") else ["test_*.py"]
