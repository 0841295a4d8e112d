"""The same commit installs the same packages, on every machine and in every year.

The lock file would hold addresses, so it is not kept; `constraint-dependencies` in `pyproject.toml` stands for it.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = canonicalize_name(PROJECT["project"]["name"])


def pins(key: str = "constraint-dependencies") -> dict[NormalizedName, Requirement]:
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, PROJECT["tool"]["uv"][key])}


def loose(packages: set[tuple[NormalizedName, str]]) -> list[str]:
    """Those of the packages, as names and versions, that no pin names, or one that wants another version."""
    known = pins()
    return sorted(
        f"{name} {version}: {known.get(name, 'no pin')}"
        for name, version in packages
        if name != OURS and not (name in known and known[name].specifier.contains(version, prereleases=True))
    )


def test_what_is_installed_for_development_is_pinned() -> None:
    installed = {(canonicalize_name(each.name), each.version) for each in metadata.distributions()}
    names = {name for name, _ in installed}
    if "ruff" not in names or "tflite-runtime" in names:
        pytest.skip("not the development environment: uv has not made this one from the pins")
    assert loose(installed) == []


def test_everything_that_any_extra_would_install_is_pinned() -> None:
    lock = ROOT / "uv.lock"
    if not lock.exists():
        pytest.skip("no uv.lock: uv has not resolved this tree")
    packages = tomllib.loads(lock.read_text())["package"]
    assert loose({(canonicalize_name(each["name"]), each["version"]) for each in packages if "version" in each}) == []


@pytest.mark.parametrize("key", ["constraint-dependencies", "build-constraint-dependencies"])
def test_a_pin_is_one_version_without_an_address_and_stands_in_its_place(key: str) -> None:
    kinds = {name: [each.operator for each in pin.specifier] for name, pin in pins(key).items()}
    bounds: dict[str, list[str]] = {"ml-dtypes": ["<="], "numpy": ["<="]}  # the extras want different ones
    assert kinds == {name: bounds.get(name, ["=="]) for name in kinds}
    assert not any(pin.url for pin in pins(key).values())
    assert list(kinds) == sorted(kinds)
    assert len(kinds) == len(PROJECT["tool"]["uv"][key])


def test_the_lock_file_stays_out_of_the_repository() -> None:
    assert "uv.lock" in (ROOT / ".gitignore").read_text().split()
