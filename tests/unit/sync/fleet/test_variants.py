"""Several builds of one version: what they ask of a device, and how alike they must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync.domain.release import SignatureDoc, TensorDoc, choose_variant
from sync.fleet.publish import Wanted, described_variant, fits
from tests.unit.sync.domain.test_release import manifest

REPORT: dict[str, Any] = {"peak_bytes": 3 << 20}


def signature(*shapes: tuple[int, ...] | None, name: str = "x", dtype: str = "float32") -> SignatureDoc:
    tensors = tuple(TensorDoc(f"{name}{number}", dtype, shape) for number, shape in enumerate(shapes))
    return SignatureDoc(tensors, tensors)


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        (signature((1, 3)), signature((1, 3)), True),
        (signature((1, 3)), signature((-1, 3)), True),
        (signature((-1, 3)), signature((4, -1)), True),
        (signature((1, 3)), signature(None), True),
        (signature((1, 3)), signature((1, 4)), False),
        (signature((1, 3)), signature((1, 3, 1)), False),
        (signature((1, 3)), signature((1, 3), dtype="uint8"), False),
        (signature((1, 3)), signature((1, 3), name="y"), False),
        (signature((1, 3)), signature((1, 3), (1, 3)), False),
    ],
)
def test_sizes_that_one_build_leaves_free_fit_any_other_and_nothing_else_may_differ(
    one: SignatureDoc, other: SignatureDoc, fit: bool
) -> None:
    assert fits(one, other) is fit
    assert fits(other, one) is fit


@pytest.mark.parametrize(
    ("wanted", "accelerators", "priority"),
    [
        ({}, ("cpu",), 10),
        ({"variant": "gpu"}, ("gpu",), 20),
        ({"variant": "edgetpu"}, ("edgetpu",), 30),
        ({"variant": "int8"}, ("cpu",), 10),
        ({"variant": "gpu", "accelerators": ("cuda",), "priority": 5}, ("cuda",), 5),
        ({"variant": "big", "accelerators": ("gpu",), "priority": 0}, ("gpu",), 0),
    ],
)
def test_a_variant_asks_for_what_it_is_called_unless_it_is_told_otherwise(
    wanted: dict[str, Any], accelerators: tuple[str, ...], priority: int
) -> None:
    made = described_variant(Wanted("m", 1, Path(), **wanted), REPORT, {"model.tflite": b"x"})
    assert made.match == {"accel": accelerators}
    assert made.priority == priority
    assert made.ram_mb == 3


def test_what_lies_in_directories_is_carried_with_its_path() -> None:
    contents = {"saved_model.pb": b"1", "variables/variables.index": b"2", "assets/words.txt": b"3"}
    made = described_variant(Wanted("m", 1, Path(), "gpu"), REPORT, contents)
    assert [file.path for file in made.files] == list(contents)


def test_a_device_takes_the_saved_model_where_it_has_a_gpu() -> None:
    both = manifest(
        described_variant(Wanted("m", 1, Path()), REPORT, {"model.tflite": b"x"}),
        described_variant(Wanted("m", 1, Path(), "gpu"), REPORT, {"saved_model.pb": b"x"}),
    )
    assert choose_variant(both, ["cpu"]).id == "cpu"
    assert choose_variant(both, ["cpu", "gpu"]).id == "gpu"
