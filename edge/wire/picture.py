"""Encoded picture → pixels.

Rule 1: a picture is a stranger's bytes: its size is read from the header and checked before a pixel is decoded.
Rule 2: whatever the decoder raises, only an EdgeError leaves.
Rule 3: Pillow is imported at the first picture, not before.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.domain.errors import EdgeError, InvalidInput, Overloaded, TooLarge
from edge.domain.models import ImageOptions

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
LARGE_PIXELS = 4_000_000
"""Pictures of more are decoded one after the other."""
_one_large = threading.Lock()
"""Pixels of a picture as it comes, width times height: 200 MB while it is decoded."""

MAX_OWN_PIXELS = 2048 * 2048
"""Pixels of a picture whose own size becomes the tensor's; in float32, 50 MB of RGB."""

MAX_SCANS = 100
"""Scans of one JPEG. Ten are usual; each costs a pass over the whole picture, however few its bytes are."""

FORMATS = ("JPEG", "PNG", "BMP")

_DRAFT_GAP = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only while it stays this many times larger than what is wanted."""

_ORIENTATION_TAG = 0x0112


def decode(body: bytes, *, height: int, width: int, channels: int, options: ImageOptions) -> npt.NDArray[np.uint8]:
    """A JPEG, PNG or BMP → uint8 [height, width, channels], upright, resized as `options` say.

    A height or width of -1 is the picture's own. channels: 1 is grey (ITU-R 601 luma), 3 is RGB or BGR. What is
    transparent is blended over black; black too is what `pad` adds, evenly on both sides. 16-bit greys keep their
    upper eight bits. Raises InvalidInput, TooLarge, and Overloaded when there is no memory for it.
    """
    try:
        return _decode(body, height, width, channels, options)
    except EdgeError:
        raise
    except MemoryError:
        raise Overloaded("picture: no memory left to decode it") from None
    except Exception as error:  # the decoder promises nothing: struct.error, SyntaxError, EOFError and more were seen
        raise _refusal(error) from error


def _decode(body: bytes, height: int, width: int, channels: int, options: ImageOptions) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if body.count(b"\xff\xda") > MAX_SCANS and body.startswith(b"\xff\xd8"):
        raise TooLarge(f"picture: want a JPEG of at most {MAX_SCANS} scans")
    with Image.open(BytesIO(body), formats=FORMATS) as opened:
        _check_size(opened.size, MAX_PIXELS)
        _draft(opened, height, width, channels, options)
        # Its size by now is what is decoded, and of that a picture takes up to ten bytes a pixel.
        with _one_large if opened.width * opened.height > LARGE_PIXELS else nullcontext():
            opened.load()
            image = _upright(_plain_mode(opened, channels), opened)
    size = (image.width if width < 0 else width, image.height if height < 0 else height)
    if width < 0 or height < 0:
        _check_size(size, MAX_OWN_PIXELS)
    pixels = _flat(_fit(image, size, options), channels)
    return pixels[..., ::-1] if channels == 3 and options.channels == "bgr" else pixels


def _check_size(size: tuple[int, int], bound: int) -> None:
    if size[0] * size[1] > bound:
        raise TooLarge(f"picture: want at most {bound} pixels, got {size[0]}x{size[1]}")


def _draft(image: Image, height: int, width: int, channels: int, options: ImageOptions) -> None:
    """Let the JPEG decoder do a first halving: a photograph costs a fifth of the time and 1/64 of the memory.

    The longer side is asked for on both axes, since the picture may yet be turned.
    """
    if height > 0 and width > 0 and options.resample != "nearest":
        side = _DRAFT_GAP * max(height, width)
        image.draft("L" if channels == 1 else "RGB", (side, side))


def _plain_mode(image: Image, channels: int) -> Image:
    """RGBA where anything is transparent, else L or RGB."""
    from PIL import Image as pillow

    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion saturates instead of scaling
        wide = np.asarray(image)
        if wide.itemsize > 2:
            wide = wide.clip(0, 0xFFFF)
        image = pillow.fromarray((wide >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which copies it in any case


def _upright(image: Image, opened: Image) -> Image:
    """Turned and mirrored as EXIF says (CIPA DC-008, tag 274). EXIF that cannot be read says nothing."""
    from PIL.Image import Transpose

    try:
        orientation = opened.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # cameras and editors write broken EXIF beside sound pixels
        return image
    steps = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    step = steps.get(orientation) if isinstance(orientation, int) else None
    return image if step is None else image.transpose(step)


def _fit(image: Image, size: tuple[int, int], options: ImageOptions) -> Image:
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.size == size:
        return image
    method = Resampling[options.resample.upper()]
    if options.resize == "crop":
        return ImageOps.fit(image, size, method=method)
    if options.resize == "pad":
        return ImageOps.pad(image, size, method=method)
    return image.resize(size, method)


def _flat(image: Image, channels: int) -> npt.NDArray[np.uint8]:
    from PIL import Image as pillow

    if image.mode == "RGBA":
        image = pillow.alpha_composite(pillow.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L" if channels == 1 else "RGB")
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def _refusal(error: Exception) -> EdgeError:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return TooLarge(f"picture: want at most {MAX_PIXELS} pixels, got far more")
    if isinstance(error, UnidentifiedImageError):  # its text shows an address in memory
        return InvalidInput("picture: want JPEG, PNG or BMP, got bytes that are none of these")
    return InvalidInput(f"picture: want a whole JPEG, PNG or BMP, got a broken one: {str(error)[:160]}")
