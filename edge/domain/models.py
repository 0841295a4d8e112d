"""Models, their versions, and which of them should be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Literal

MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class ModelId:
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a request asks for: a version, a label, or neither (the newest that is ready)."""

    name: str
    version: int | None = None
    label: str | None = None


class Platform(Enum):
    """Which runtime a version needs."""

    TFLITE = "tflite"
    SAVEDMODEL = "savedmodel"


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How a picture becomes the input of a model with one image input.

    resize: `stretch` ignores the aspect ratio, `crop` keeps the middle, `pad` adds black on both sides.
    channels: the order that a model of three channels was trained with; one of one channel gets grey.

    With `mean` or `std`, in units of a channel's 0–255, a pixel's real value is (pixel - mean) / std, mean 0 and
    std 1 unless given; a quantized input stores it by its scale and zero point, other integers round it.
    With neither:
    - 8-bit inputs, quantized or not, take black to white as all of their range: uint8 is the pixel, int8 the
      pixel - 128. That is what the quantizer made of the inputs it was shown, whether the model was trained on
      [-1,1], [0,1] or [0,255]; a model whose range was set wider wants its mean and std.
    - floats, and quantized int16, take (pixel - 127.5) / 127.5, from -1 to 1.
    - other integers take the pixel.
    """

    resize: Literal["stretch", "crop", "pad"] = "stretch"
    resample: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How one model is loaded and run; from the configuration, overridden by the version's `model.toml`.

    device: `cpu`, `edgetpu`, `edgetpu:N`, `usb:N`, `pci:N`, `gpu` or `gpu:N`. instances: interpreters that may run at
    once, 0 to choose from the cores. num_threads: threads within one run. lane: where runs happen,
    `auto` to choose from the measured run time. max_queue: requests waiting, beyond those that run.
    max_run_s: a run longer than this fails its request and takes its lane out of service.
    max_batch: rows that one run may take, 0 for as many as the model can.
    cpu_twin: a CPU build of the same model, used when the device is missing or lost.
    max_batch_size: rows of several requests that may share a run, 0 to find out what profits, 1 for none; a larger request
    is run in parts. batch_timeout_s: how long a run that has room waits for more while another is under way.
    allowed_batch_sizes: ascending sizes that runs are padded to. pad_variable_length_inputs: whether shorter inputs are
    lengthened to share a run. cache_bytes: of answers that are given again to the same inputs, 0 for none.

    Of SavedModels only: tags name the graph; inter_op_threads run operators side by side, 0 for TensorFlow's choice;
    gpu_memory_bytes is the most that it may take of a GPU, 0 for as much as it grows to; xla compiles what it can;
    mixed_precision computes in fewer bits where TensorFlow thinks that it may. max_load_s: what its worker may take to load it.
    """

    device: str = "cpu"
    instances: int = 0
    num_threads: int = 1
    dequantize: bool = False
    lane: Literal["auto", "inline", "thread"] = "auto"
    max_queue: int = 256
    max_run_s: float = 30.0
    max_batch: int = 0
    cpu_twin: Path | None = None
    max_batch_size: int = 0
    batch_timeout_s: float = 0.0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    cache_bytes: int = 0
    tags: tuple[str, ...] = ("serve",)
    inter_op_threads: int = 0
    gpu_memory_bytes: int = 0
    xla: bool = False
    mixed_precision: Literal["", "float16", "bfloat16"] = ""
    max_load_s: float = 60.0
    image: ImageOptions = field(default_factory=ImageOptions)

    @property
    def answers_bytes(self) -> int:
        """`cache_bytes`; 0 where outputs have the length of the longest input in a run: they are not an answer for everybody."""
        return 0 if self.pad_variable_length_inputs else self.cache_bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version on disk. `path` is its directory, or the one file that it consists of.

    `fingerprint` changes whenever a file of the version does; a failed version is tried again at once then.
    """

    id: ModelId
    platform: Platform
    path: Path
    fingerprint: str = ""

    def file(self, name: str) -> Path:
        """A file beside the model, such as `labels.txt`; it need not be there."""
        return (self.path if self.path.is_dir() else self.path.parent) / name


def is_gpu(device: str) -> bool:
    """`gpu` and `gpu:N`."""
    kind, _, number = device.partition(":")
    return kind == "gpu" and (device == kind or (number.isascii() and number.isdecimal()))


class Swap(Enum):
    """BESIDE loads the new version before the old one goes; REPLACE unloads first, for want of memory."""

    BESIDE = "beside"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Aspired:
    """All that one model should have: said whole and again and again, never as a change.

    `available` holds every version that could be loaded, `versions` those that should be; `fallback` is
    served when none of those can be, and with `keep_fallback` stays loaded beside them. `further`: what is served when
    not even that can be, the first that can.
    `pending`: a version is there that is still being written. `generation` and `problem` are for the status: what is acted on, and what was wrong with what came later.
    """

    name: str
    versions: tuple[int, ...]
    available: Mapping[int, Artifact] = field(default_factory=lambda: MappingProxyType({}))
    fallback: int | None = None
    keep_fallback: bool = False
    labels: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    swap: Swap = Swap.BESIDE
    generation: int = 0
    problem: str = ""
    pending: bool = False
    options: ModelOptions = field(default_factory=ModelOptions)
    further: tuple[int, ...] = ()

    @property
    def spares(self) -> tuple[int, ...]:
        """`fallback` and `further` that are there, in the order in which they are served."""
        named = (*(() if self.fallback is None else (self.fallback,)), *self.further)
        return tuple(version for version in named if version in self.available)
