"""Whatever bytes come, a picture binds to a tensor that fits or to an EdgeError."""

from __future__ import annotations

import warnings
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge.domain.errors import EdgeError
from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import Target
from edge.domain.tensors import DType, Quantization, Signature, TensorSpec
from edge.wire.image import ImagePayload

Edits = list[tuple[str, float, bytes]]


def _samples() -> list[bytes]:
    pixels = np.random.default_rng(3).integers(0, 256, (24, 40, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb, rgba = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgba, "PNG", {"exif": exif}),
        (rgb.convert("P"), "PNG", {"transparency": 3}),
        (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG", {}),
        (rgb, "BMP", {}),
        (rgb.convert("1"), "BMP", {}),
    ]
    samples = []
    for image, kind, how in kinds:
        stream = BytesIO()
        image.save(stream, kind, **how)
        samples.append(stream.getvalue())
    return samples


SAMPLES = _samples()
# Half of the edits fall into the first bytes, where the headers are.
PLACES = st.one_of(st.floats(0, 1), st.floats(0, 0.1))
EDITS = st.lists(st.tuples(st.sampled_from(["put", "insert", "cut", "end"]), PLACES, st.binary(min_size=1, max_size=8)))
SHAPES = st.sampled_from([(1, 8, 8, 3), (1, 8, 8, 1), (-1, -1, -1, 3), (1, 3, 9, 5), (1, 28, 28)])


def mutated(body: bytes, edits: Edits) -> bytes:
    for edit, place, piece in edits:
        at = int(place * len(body))
        after = {"put": at + len(piece), "insert": at, "cut": at + 4 * len(piece), "end": len(body)}[edit]
        body = body[:at] + (piece if edit in ("put", "insert") else b"") + body[after:]
    return body


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.builds(mutated, st.sampled_from(SAMPLES), EDITS), st.binary(max_size=64)),
    SHAPES,
    st.sampled_from(["stretch", "crop", "pad"]),
)
def test_every_body_binds_to_a_tensor_that_fits_or_to_an_edge_error(
    body: bytes, shape: tuple[int, ...], resize: Any
) -> None:
    spec = TensorSpec("x", DType.INT8, shape, Quantization(1 / 255, -128))
    target = Target(ModelId("m", 1), Signature("s", {"x": spec}, {}), ImageOptions(resize=resize))
    with warnings.catch_warnings(), suppress(EdgeError):
        warnings.simplefilter("ignore")  # as in production: the decoder's warnings stop nothing
        tensor = ImagePayload(body, "image/png").bind(target)["x"]
        assert spec.admits(tensor.shape)
        assert tensor.dtype == np.int8
