"""The same commit installs the same packages, on every machine and in every year."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_of_the_development_environment_is_pinned_to_what_is_installed() -> None:
    project = tomllib.loads(PROJECT.read_text())
    listed = project["tool"]["uv"]["constraint-dependencies"] + [
        one for one in project["dependency-groups"]["dev"] if isinstance(one, str)
    ]
    pins = {normal(name): version for name, _, version in (one.partition("==") for one in listed) if version}
    installed = {normal(each.name): each.version for each in metadata.distributions()}
    ours = normal(project["project"]["name"])
    if "ruff" not in installed or "tflite-runtime" in installed:
        pytest.skip("not the development environment: other pins belong to this one")
    assert {name: version for name, version in installed.items() if name != ours} == {
        name: version for name, version in pins.items() if name in installed
    }
