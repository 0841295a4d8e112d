"""What a picture may cost while it is decoded."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edge.domain.models import ImageOptions
from edge.wire.picture import decode


def png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_sixteen_bit_grey_is_not_widened_on_its_way_to_eight() -> None:
    side = 1_000
    body = png(Image.fromarray(np.full((side, side), 0x80FF, np.uint16)))
    tracemalloc.start()
    try:
        pixels = decode(body, height=8, width=8, channels=1, options=ImageOptions())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (pixels == 0x80).all()
    assert peak < 8 * side * side, f"{peak / side**2:.1f} bytes a pixel"


def test_a_picture_that_is_as_it_is_wanted_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    body = png(Image.new("RGB", (64, 64), "red"))
    sizes = []

    def converted(self: Image.Image, mode: str) -> Image.Image:
        sizes.append(self.size)
        return original(self, mode)

    original = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", converted)
    decode(body, height=8, width=8, channels=3, options=ImageOptions())
    assert (64, 64) not in sizes
