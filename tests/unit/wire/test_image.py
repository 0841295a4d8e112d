from __future__ import annotations

import sys
from io import BytesIO
from subprocess import run
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.domain.errors import Code, EdgeError, InvalidInput, TooLarge, Unsupported, UnsupportedMedia
from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import Target
from edge.domain.tensors import Array, DType, Quantization, Shape, Signature, TensorSpec
from edge.wire import picture
from edge.wire.image import ImagePayload, is_picture, takes_picture

MOBILENET = TensorSpec("x", DType.UINT8, (1, 4, 6, 3), Quantization(1 / 128, 128))
BLACK_GREY_WHITE = np.array([[0, 128, 255]], np.uint8)


def target(spec: TensorSpec, **options: Any) -> Target:
    return Target(ModelId("m", 1), Signature("serving_default", {spec.name: spec}, {}), ImageOptions(**options))


def encoded(pixels: Array | Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **how)
    return stream.getvalue()


def bound(body: bytes, spec: TensorSpec, **options: Any) -> Array:
    tensors = ImagePayload(body, "image/png").bind(target(spec, **options))
    assert list(tensors) == [spec.name]
    array = tensors[spec.name]
    assert array.flags.c_contiguous
    assert DType.of(array) is spec.dtype
    assert spec.admits(array.shape)
    return array


def image_spec(dtype: DType, quantization: Quantization | None = None, shape: Shape = (1, 1, 3, 1)) -> TensorSpec:
    return TensorSpec("x", dtype, shape, quantization)


def colours(height: int, width: int) -> Array:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_lossless_picture_of_the_models_size_arrives_pixel_for_pixel(kind: str) -> None:
    pixels = colours(4, 6)
    assert np.array_equal(bound(encoded(pixels, kind), MOBILENET), pixels[np.newaxis])


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (image_spec(DType.UINT8, Quantization(1 / 128, 128)), [0, 128, 255]),
        (image_spec(DType.UINT8, Quantization(1 / 255, 0)), [0, 128, 255]),
        (image_spec(DType.UINT8), [0, 128, 255]),
        (image_spec(DType.INT8, Quantization(1 / 128, 0)), [-128, 0, 127]),
        (image_spec(DType.INT8, Quantization(1 / 255, -128)), [-128, 0, 127]),
        (image_spec(DType.INT8, Quantization(16 / 255, -128)), [-128, 0, 127]),
        (image_spec(DType.INT8), [-128, 0, 127]),
        (image_spec(DType.INT16, Quantization(1 / 32767, 0)), [-32767, 128, 32767]),
        (image_spec(DType.INT32), [0, 128, 255]),
        (image_spec(DType.FLOAT32), [-1.0, 0.5 / 127.5, 1.0]),
    ],
    ids=str,
)
def test_without_mean_and_std_black_and_white_are_the_ends_of_the_inputs_range(spec: TensorSpec, want: Any) -> None:
    got = bound(encoded(BLACK_GREY_WHITE), spec).ravel()
    assert np.allclose(got, want, atol=1e-6 if spec.dtype is DType.FLOAT32 else 0)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (image_spec(DType.FLOAT32), [-2.0, 0.56, 3.1]),
        (image_spec(DType.UINT8, Quantization(0.1, 30)), [10, 36, 61]),
        (image_spec(DType.INT8, Quantization(0.02, 0)), [-100, 28, 127]),
        (image_spec(DType.INT32), [-2, 1, 3]),
    ],
    ids=str,
)
def test_mean_and_std_give_the_real_value_and_a_quantized_input_stores_it(spec: TensorSpec, want: Any) -> None:
    assert np.allclose(bound(encoded(BLACK_GREY_WHITE), spec, mean=100, std=50).ravel(), want, atol=1e-6)


def test_mean_defaults_to_0_and_std_to_1_when_the_other_is_given() -> None:
    spec = image_spec(DType.FLOAT32)
    assert bound(encoded(BLACK_GREY_WHITE), spec, std=255.0).ravel()[2] == 1.0
    assert bound(encoded(BLACK_GREY_WHITE), spec, mean=128.0).ravel().tolist() == [-128.0, 0.0, 127.0]


@pytest.mark.parametrize("options", [{"std": 0.0}, {"std": float("nan")}, {"mean": float("inf")}])
def test_a_scaling_that_cannot_be_done_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(Unsupported, match="std"):
        bound(encoded(BLACK_GREY_WHITE), image_spec(DType.FLOAT32), **options)


@pytest.mark.parametrize("options", [{}, {"mean": 120.0, "std": 60.0}])
@pytest.mark.parametrize("quantization", [Quantization(1 / 128, 0), Quantization(1 / 255, -128), Quantization(2.0, 3)])
def test_the_float_view_gets_what_quantizes_to_the_same_integers(
    quantization: Quantization, options: dict[str, float]
) -> None:
    spec = image_spec(DType.INT8, quantization, (1, 16, 16, 1))
    body = encoded(np.arange(256, dtype=np.uint8).reshape(16, 16))
    plain = target(spec, **options)
    floats = Target(plain.model, plain.signature.as_floats, plain.image, native=plain.signature)
    reals = ImagePayload(body, "image/png").bind(floats)["x"]
    assert reals.dtype == np.float32
    assert np.array_equal(quantization.quantize(reals, DType.INT8), bound(body, spec, **options))


def test_a_colour_picture_becomes_grey_for_one_channel_and_a_grey_one_colour_for_three() -> None:
    red = np.full((1, 3, 3), (255, 0, 0), np.uint8)
    assert bound(encoded(red), image_spec(DType.UINT8)).ravel().tolist() == [76, 76, 76]
    grey = bound(encoded(BLACK_GREY_WHITE), image_spec(DType.UINT8, shape=(1, 1, 3, 3)))
    assert grey.tolist() == [[[[0] * 3, [128] * 3, [255] * 3]]]


def test_bgr_swaps_the_channels() -> None:
    pixels = colours(4, 6)
    assert np.array_equal(bound(encoded(pixels), MOBILENET, channels="bgr")[0], pixels[..., ::-1])


def test_channels_first_and_grey_without_an_axis_for_channels_fit_as_well() -> None:
    pixels = colours(5, 7)
    first = bound(encoded(pixels), image_spec(DType.UINT8, shape=(-1, 3, 5, 7)))
    assert np.array_equal(first[0], pixels.transpose(2, 0, 1))
    grey = bound(encoded(pixels[..., 0]), image_spec(DType.UINT8, shape=(1, 5, 7)))
    assert np.array_equal(grey[0], pixels[..., 0])


def test_what_is_transparent_is_blended_over_black() -> None:
    pixels = np.array([[(200, 100, 50, 255), (200, 100, 50, 0), (255, 255, 255, 51)]], np.uint8)
    spec = image_spec(DType.UINT8, shape=(1, 1, 3, 3))
    assert bound(encoded(pixels), spec).tolist() == [[[[200, 100, 50], [0, 0, 0], [51, 51, 51]]]]
    palette = Image.fromarray(BLACK_GREY_WHITE).convert("P")
    assert bound(encoded(palette, transparency=255), image_spec(DType.UINT8)).ravel().tolist() == [0, 128, 0]


def test_sixteen_bit_grey_keeps_its_upper_bits() -> None:
    deep = np.array([[0, 0x80FF, 0xFFFF]], np.uint16)
    assert bound(encoded(deep), image_spec(DType.UINT8)).ravel().tolist() == [0, 0x80, 0xFF]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_every_mode_of_a_jpeg_or_png_is_understood(mode: str) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    white = Image.new("RGB", (6, 4), "white").convert(mode)
    assert (bound(encoded(white, kind), MOBILENET) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_taken_with_the_camera_turned_arrives_upright(orientation: int) -> None:
    upright = Image.fromarray(colours(8, 8))
    turned = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in turned[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = bound(encoded(stored, exif=exif), image_spec(DType.UINT8, shape=(1, 8, 8, 3)))
    assert np.array_equal(got[0], np.asarray(upright))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_beside_sound_pixels_is_passed_over() -> None:
    body = encoded(colours(8, 8), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert bound(body, image_spec(DType.UINT8, shape=(1, 8, 8, 3))).shape == (1, 8, 8, 3)


def test_stretch_crop_and_pad_differ_in_what_they_do_to_the_aspect_ratio() -> None:
    wide = np.zeros((4, 8, 1), np.uint8)
    wide[:, :2], wide[:, 2:6], wide[:, 6:] = 50, 100, 200
    spec = image_spec(DType.UINT8, shape=(1, 4, 4, 1))
    body = encoded(wide[..., 0])

    def row(resize: str) -> list[int]:
        return bound(body, spec, resize=resize, resample="nearest")[0, 2, :, 0].tolist()  # type: ignore[no-any-return]

    assert row("stretch") == [50, 100, 100, 200]
    assert row("crop") == [100] * 4
    assert row("pad") == [50, 100, 100, 200]
    padded = bound(body, spec, resize="pad", resample="nearest")[0, ..., 0]
    assert padded[0].tolist() == padded[3].tolist() == [0] * 4


def test_a_dynamic_size_is_the_pictures_own() -> None:
    body = encoded(colours(5, 7))
    assert bound(body, image_spec(DType.UINT8, shape=(-1, -1, -1, 3))).shape == (1, 5, 7, 3)
    assert bound(body, image_spec(DType.UINT8, shape=(1, -1, 32, 1))).shape == (1, 5, 32, 1)


def test_a_picture_too_large_to_be_a_tensor_of_its_own_size_is_refused() -> None:
    body = encoded(np.zeros((2048, 2049), np.uint8))
    with pytest.raises(TooLarge, match="2049x2048"):
        bound(body, image_spec(DType.UINT8, shape=(1, -1, -1, 1)))
    assert bound(body, image_spec(DType.UINT8)).shape == (1, 1, 3, 1)


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header speaks of many pixels."""
    import struct
    import zlib

    body = encoded(np.zeros((1, 1), np.uint8))
    header = b"IHDR" + struct.pack(">II", width, height) + body[24:29]
    return body[:12] + header + struct.pack(">I", zlib.crc32(header)) + body[33:]


@pytest.mark.parametrize(("width", "height"), [(50_001, 1_000), (9_500, 9_500), (30_000, 30_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(TooLarge, match="50000000 pixels"):
        bound(bomb(width, height), MOBILENET)


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded() -> None:
    body = encoded(colours(16, 16), "JPEG", progressive=True)
    start = body.index(b"\xff\xda")
    with pytest.raises(TooLarge, match="100 scans"):
        bound(body[:start] + body[start:-2] * 60 + body[-2:], MOBILENET)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a" + bytes(40), b"<svg/>", bytes(100)]
)
def test_bytes_that_are_no_picture_are_invalid_and_the_text_shows_no_address(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="JPEG, PNG or BMP") as raised:
        bound(body, MOBILENET)
    assert "0x" not in raised.value.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_truncated_picture_is_invalid(kind: str) -> None:
    body = encoded(colours(64, 64), kind)
    with pytest.raises(InvalidInput, match="broken"):
        bound(body[: len(body) // 2], MOBILENET)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [TensorSpec("x", DType.FLOAT32, (1, 10))],
        [TensorSpec("x", DType.FLOAT32, None)],
        [TensorSpec("x", DType.FLOAT32, (2, 8, 8, 3))],
        [TensorSpec("x", DType.FLOAT32, (1, 8, 8, 4))],
        [TensorSpec("x", DType.FLOAT32, (1, 0, 8, 3))],
        [TensorSpec("x", DType.FLOAT32, (1, 28, 3))],
        [TensorSpec("x", DType.STRING, (1, 8, 8, 3))],
        [MOBILENET, TensorSpec("y", DType.FLOAT32, (1,))],
    ],
    ids=str,
)
def test_a_model_that_takes_no_picture_says_what_it_takes(inputs: list[TensorSpec]) -> None:
    signature = Signature("serving_default", {spec.name: spec for spec in inputs}, {})
    assert not takes_picture(signature)
    with pytest.raises(InvalidInput, match="m@1 takes") as raised:
        ImagePayload(b"", "image/png").bind(Target(ModelId("m", 1), signature, ImageOptions()))
    assert all(str(spec) in raised.value.message for spec in inputs)


@pytest.mark.parametrize("media_type", ["image/jpeg", "IMAGE/PNG", " image/bmp; x=y", "image/jpg", "image/x-ms-bmp"])
def test_media_types_of_the_three_kinds_are_taken_in_every_spelling(media_type: str) -> None:
    assert is_picture(media_type)
    assert ImagePayload(b"12", media_type).size == 2


@pytest.mark.parametrize("media_type", ["image/webp", "image/svg+xml", "application/json", "", "image"])
def test_any_other_media_type_is_unsupported(media_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="image/jpeg, image/png, image/bmp") as raised:
        ImagePayload(b"", media_type)
    assert raised.value.code is Code.UNSUPPORTED_MEDIA


def test_the_kind_is_read_from_the_bytes_and_binding_is_known_to_be_slow() -> None:
    payload = ImagePayload(encoded(colours(4, 6), "JPEG"), "image/png")
    assert payload.slow
    assert payload.bind(target(MOBILENET))["x"].shape == (1, 4, 6, 3)


def test_no_memory_is_the_servers_trouble_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(picture, "_check_size", exhausted)
    with pytest.raises(EdgeError) as raised:
        bound(encoded(colours(4, 4)), MOBILENET)
    assert raised.value.code is Code.OVERLOADED


def test_pillow_is_imported_at_the_first_picture_only() -> None:
    program = "import sys, edge.wire.image; sys.exit('PIL' in sys.modules)"
    assert run([sys.executable, "-c", program], check=False).returncode == 0
