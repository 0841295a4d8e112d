"""A picture as the input of a model.

Rule 1: what a pixel becomes depends on its value 0–255 alone, so it is one table of 256 entries; `ImageOptions` says which.
Rule 2: the media type says whether a body is a picture; which kind of picture is read from the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.domain.errors import InvalidInput, Unsupported, UnsupportedMedia
from edge.domain.models import ImageOptions
from edge.domain.requests import Target
from edge.domain.tensors import Array, DType, Signature, Tensors, TensorSpec
from edge.wire.picture import decode

MEDIA_TYPES = ("image/jpeg", "image/png", "image/bmp")
_ALIASES = {"image/jpg", "image/pjpeg", "image/x-png", "image/x-bmp", "image/x-ms-bmp"}

_NOT_PIXELS = {DType.BOOL, DType.STRING}
_SMALLEST_SIDE = 4
"""Of a tensor without an axis for channels: below this, its last axis is taken for channels, not for a width."""


def is_picture(media_type: str) -> bool:
    """Whether a Content-Type announces a picture of any kind, parameters aside."""
    return media_type.lstrip()[:6].lower() == "image/"


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """An encoded JPEG, PNG or BMP. Raises UnsupportedMedia for any other media type."""

    body: bytes
    media_type: str

    def __post_init__(self) -> None:
        essence = self.media_type.partition(";")[0].strip().lower()
        if essence not in MEDIA_TYPES and essence not in _ALIASES:
            raise UnsupportedMedia(f"picture: want {', '.join(MEDIA_TYPES)}, got {essence[:80] or 'no media type'}")

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def slow(self) -> bool:
        return True

    def bind(self, target: Target) -> Tensors:
        """The one input of the target, as a batch of one picture.

        Raises InvalidInput where the bytes are no whole picture or the model takes none, TooLarge, Overloaded, and
        Unsupported for a scaling that cannot be done.
        """
        key, frame = _image_input(target)
        table = _table(target.signature.inputs[key], _native(target, key), target.image)
        pixels = decode(
            self.body, height=frame.height, width=frame.width, channels=frame.channels, options=target.image
        )
        return {key: frame.place(table[pixels])}


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a tensor has a picture's height, width and channels; -1 for a size that is the picture's own."""

    height: int
    width: int
    channels: int
    axes: Literal["nhwc", "nchw", "nhw"]

    def place(self, picture: Array) -> Array:
        """[height, width, channels] → a batch of one in the tensor's order, contiguous."""
        if self.axes == "nhw":
            picture = picture[..., 0]
        elif self.axes == "nchw":
            picture = picture.transpose(2, 0, 1)
        return np.ascontiguousarray(picture[np.newaxis])


def frame_of(spec: TensorSpec) -> Frame | None:
    """How a picture fits into this tensor: [1|?,H,W,1|3], [1|?,1|3,H,W] or grey [1|?,H,W]; None if it does not."""
    shape = spec.shape
    if shape is None or spec.dtype in _NOT_PIXELS or len(shape) not in (3, 4) or shape[0] not in (1, -1):
        return None
    if 0 in shape:
        return None
    if len(shape) == 3:
        return Frame(shape[1], shape[2], 1, "nhw") if min(shape[1:]) >= _SMALLEST_SIDE else None
    if shape[3] in (1, 3):
        return Frame(shape[1], shape[2], shape[3], "nhwc")
    return Frame(shape[2], shape[3], shape[1], "nchw") if shape[1] in (1, 3) else None


def takes_picture(signature: Signature) -> bool:
    """Whether a picture alone is enough to call it."""
    return len(signature.inputs) == 1 and all(frame_of(spec) for spec in signature.inputs.values())


def _image_input(target: Target) -> tuple[str, Frame]:
    inputs = target.signature.inputs
    if len(inputs) == 1:
        key, spec = next(iter(inputs.items()))
        frame = frame_of(spec)
        if frame is not None:
            return key, frame
    takes = ", ".join(f"{key} {spec}" for key, spec in inputs.items()) or "nothing"
    raise InvalidInput(
        f"picture: want a model whose one input is an image [?,height,width,1 or 3]; {target.model} takes {takes}"
    )


def _native(target: Target, key: str) -> TensorSpec:
    """The input as the model itself has it, behind the float view if there is one."""
    native = target.native or target.signature
    return native.inputs.get(key, target.signature.inputs[key])


def _table(spec: TensorSpec, native: TensorSpec, options: ImageOptions) -> Array:
    """What each pixel value 0–255 becomes: [256] of the input's type. The rule is that of `ImageOptions`."""
    pixel = np.arange(256, dtype=np.float64)
    if options.mean is not None or options.std is not None:
        real = (pixel - (options.mean or 0.0)) / _std(options)
    elif native.dtype is DType.UINT8 or native.dtype is DType.INT8:
        stored = (pixel - (128 if native.dtype is DType.INT8 else 0)).astype(native.dtype.numpy)
        if spec.dtype is native.dtype:
            return stored
        real = native.quantization.dequantize(stored).astype(np.float64) if native.quantization else pixel
    elif native.quantization is not None or not native.dtype.is_integer:
        real = (pixel - 127.5) / 127.5
    else:
        real = pixel
    return _store(real, spec)


def _std(options: ImageOptions) -> float:
    std = 1.0 if options.std is None else options.std
    if not np.isfinite(std) or std == 0 or not np.isfinite(options.mean or 0.0):
        raise Unsupported(
            f"picture: want a finite image.mean and a finite image.std that is not 0; "
            f"this model has {options.mean} and {options.std}"
        )
    return std


def _store(real: Array, spec: TensorSpec) -> Array:
    if spec.quantization is not None and spec.dtype.is_integer:
        return spec.quantization.quantize(real.astype(np.float32), spec.dtype)
    if spec.dtype.is_integer:
        limits = np.iinfo(spec.dtype.numpy)
        return np.rint(real).clip(limits.min, limits.max).astype(spec.dtype.numpy)
    return real.astype(spec.dtype.numpy)
