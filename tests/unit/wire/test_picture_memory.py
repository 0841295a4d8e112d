"""What a picture may cost while it is decoded."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile

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


def test_large_pictures_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.wire.picture.LARGE_PIXELS", 100)
    large, small = png(Image.new("RGB", (64, 64), "red")), png(Image.new("RGB", (8, 8), "red"))
    inside, most = 0, 0
    original = ImageFile.ImageFile.load

    def load(self: ImageFile.ImageFile) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        entered.set()
        if self.width > 8:
            assert may_end.wait(5)
        inside -= 1
        return original(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    entered, may_end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(decode, large, height=8, width=8, channels=3, options=ImageOptions()) for _ in range(3)]
        assert entered.wait(5)
        quick = pool.submit(decode, small, height=8, width=8, channels=3, options=ImageOptions())
        assert quick.result(5).shape == (8, 8, 3), "a small one does not wait"
        most = 0
        may_end.set()
        for each in waiting:
            each.result(5)
    assert most == 1
