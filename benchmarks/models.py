"""The models that are measured, made here: int8 inside, uint8 pictures in, weights that nobody trained.

Rule: what decides speed (operators, shapes, types) is that of the networks they are named after; the answers mean
nothing, and depend on every pixel. Source of the layers: MobileNetV2, https://arxiv.org/abs/1801.04381, table 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.domain.tensors import Array, DType
from tests.flatbuffer import Scalar, Table
from tests.tflite_models import Graph, Op, Sig, T, make

ADD, CONV_2D, DEPTHWISE, FULLY_CONNECTED, RESHAPE, MEAN, QUANTIZE = 0, 3, 4, 9, 22, 40, 114
OPTIONS = {ADD: 11, CONV_2D: 1, DEPTHWISE: 2, FULLY_CONNECTED: 8, MEAN: 27, QUANTIZE: 91}
SAME, NO_ACTIVATION, RELU6 = 0, 0, 3
PIXEL = 1 / 127.5
RELU6_SCALE, LINEAR_SCALE = 6 / 255, 8 / 255
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
CLASSES = 1001
DIGITS = Path(__file__).parents[1] / "edge" / "data" / "digits" / "2" / "model.tflite"


@dataclass
class _Net:
    """A graph that grows from its input; tensors are told by their index."""

    tensors: list[T] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def tensor(
        self, shape: Sequence[int], scale: float, zero: int = 0, *, dtype: DType = DType.INT8, name: str = ""
    ) -> int:
        index = len(self.tensors)
        self.tensors.append(T(name or f"t{index}", dtype, shape, scales=[scale], zero_points=[zero]))
        return index

    def op(self, code: int, inputs: Sequence[int], output: int, options: Table) -> int:
        self.ops.append(Op(code, inputs, (output,), options=(OPTIONS[code], options)))
        return output

    def constant(self, values: Array, dtype: DType, scale: float = 0.0) -> int:
        index = len(self.tensors)
        quantization = {"scales": [scale], "zero_points": [0]} if scale else {}
        self.tensors.append(T(f"c{index}", dtype, values.shape, values, **quantization))  # type: ignore[arg-type]  # a dict of two kinds of lists
        return index

    def scale(self, index: int) -> float:
        return self.tensors[index].scales[0]

    def size(self, index: int) -> tuple[int, int, int]:
        _, height, width, channels = self.tensors[index].shape
        return height, width, channels

    def weights(self, shape: Sequence[int], fan_in: int, x: int, outputs: int) -> tuple[int, int]:
        """Weights and bias that keep what passes through them at about its size."""
        scale = math.sqrt(2 / fan_in) / 30
        values = np.clip(self.random.normal(0, 30, shape), -127, 127).astype(np.int8)
        bias = self.random.integers(-500, 500, outputs).astype(np.int32)
        return self.constant(values, DType.INT8, scale), self.constant(bias, DType.INT32, scale * self.scale(x))

    def activation(self, shape: Sequence[int], function: int) -> int:
        return self.tensor(shape, RELU6_SCALE, -128) if function == RELU6 else self.tensor(shape, LINEAR_SCALE)

    def conv(self, x: int, outputs: int, kernel: int = 1, stride: int = 1, function: int = RELU6) -> int:
        height, width, channels = self.size(x)
        parameters = self.weights((outputs, kernel, kernel, channels), kernel * kernel * channels, x, outputs)
        y = self.activation((1, -(-height // stride), -(-width // stride), outputs), function)
        return self.op(CONV_2D, (x, *parameters), y, _options(SAME, stride, function))

    def depthwise(self, x: int, stride: int) -> int:
        height, width, channels = self.size(x)
        parameters = self.weights((1, 3, 3, channels), 9, x, channels)
        y = self.activation((1, -(-height // stride), -(-width // stride), channels), RELU6)
        return self.op(DEPTHWISE, (x, *parameters), y, _options(SAME, stride, RELU6, multiplier=1))

    def add(self, a: int, b: int) -> int:
        return self.op(ADD, (a, b), self.activation((1, *self.size(a)), NO_ACTIVATION), Table([Scalar("b", 0)]))

    def mean(self, x: int) -> int:
        axes = self.constant(np.array([1, 2], np.int32), DType.INT32)
        y = self.tensor((1, self.size(x)[2]), self.scale(x), -128)
        return self.op(MEAN, (x, axes), y, Table([Scalar("b", 0)]))

    def dense(self, x: int, inputs: int, outputs: int) -> int:
        weights, bias = self.weights((outputs, inputs), inputs, x, outputs)
        y = self.tensor((1, outputs), LINEAR_SCALE)
        return self.op(FULLY_CONNECTED, (x, weights, bias), y, Table([Scalar("b", NO_ACTIVATION)]))

    def requantize(self, x: int, scale: float, zero: int, dtype: DType, name: str = "") -> int:
        y = self.tensor(self.tensors[x].shape, scale, zero, dtype=dtype, name=name)
        return self.op(QUANTIZE, (x,), y, Table([]))

    def model(self, output: int) -> bytes:
        return make([Graph(self.tensors, [0], [output], self.ops)], [Sig({"image": 0}, {"scores": output})])


def _options(padding: int, stride: int, function: int, multiplier: int | None = None) -> Table:
    common = [Scalar("b", padding), Scalar("i", stride), Scalar("i", stride)]
    return Table([*common, *([Scalar("i", multiplier)] if multiplier else []), Scalar("b", function)])


def tiny() -> bytes:
    """`image` uint8 [1,8,8,1] → `scores` uint8 [1,10]: a layer of 32 and one of 10."""
    net = _Net()
    image = net.tensor((1, 8, 8, 1), 1 / 16, 0, dtype=DType.UINT8, name="image")
    x = net.dense(net.requantize(image, 1 / 16, -128, DType.INT8), 64, 32)
    return net.model(net.requantize(net.dense(x, 32, 10), LINEAR_SCALE, 128, DType.UINT8, "scores"))


def dense(size: int = 1024, layers: int = 3) -> bytes:
    """`image` float32 [?,size] → `scores` float32 [?,size]: fully connected, so that a row alone reads all weights for itself."""
    random = np.random.default_rng(7)
    tensors, ops = [T("image", shape=(-1, size))], []
    for layer in range(layers):
        weights = (random.normal(0, 1, (size, size)) / math.sqrt(size)).astype(np.float32)
        name = "scores" if layer == layers - 1 else f"t{layer}"
        x, constant = len(tensors) - 1, len(tensors)
        tensors += [T(f"w{layer}", shape=(size, size), data=weights), T(name, shape=(-1, size))]
        options = (OPTIONS[FULLY_CONNECTED], Table([Scalar("b", NO_ACTIVATION)]))
        ops.append(Op(FULLY_CONNECTED, (x, constant), (constant + 1,), options=options))
    return make([Graph(tensors, [0], [len(tensors) - 1], ops)], [Sig({"image": 0}, {"scores": len(tensors) - 1})])


def mobilenet_v2(side: int, alpha: float, classes: int = CLASSES) -> bytes:
    """`image` uint8 [1,side,side,3] → `scores` uint8 [1,classes]. `alpha` widens every layer but the last."""
    net = _Net()
    image = net.tensor((1, side, side, 3), PIXEL, 128, dtype=DType.UINT8, name="image")
    x = net.conv(net.requantize(image, PIXEL, 0, DType.INT8), _width(32 * alpha), 3, 2)
    for expansion, channels, repeats, stride in BLOCKS:
        for step in range(repeats):
            x = _block(net, x, expansion, _width(channels * alpha), stride if step == 0 else 1)
    x = net.mean(net.conv(x, max(1280, _width(1280 * alpha))))
    scores = net.dense(x, 1280, classes)
    return net.model(net.requantize(scores, LINEAR_SCALE, 128, DType.UINT8, "scores"))


def _block(net: _Net, x: int, expansion: int, channels: int, stride: int) -> int:
    inputs = net.size(x)[2]
    y = net.conv(x, inputs * expansion) if expansion > 1 else x
    y = net.conv(net.depthwise(y, stride), channels, function=NO_ACTIVATION)
    return net.add(x, y) if stride == 1 and inputs == channels else y


def _width(channels: float) -> int:
    """The nearest multiple of eight that is not below nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


@dataclass(frozen=True)
class Measured:
    """A model file with one input, `image`; `largest` is the largest value that its pictures have."""

    path: Path
    shape: tuple[int, ...]
    dtype: DType = DType.UINT8
    largest: int = 255

    @property
    def name(self) -> str:
        return self.path.stem

    def picture(self) -> Array:
        """The same in every run."""
        lowest = np.iinfo(self.dtype.numpy).min
        random = np.random.default_rng(3)
        return random.integers(lowest, self.largest, self.shape, dtype=self.dtype.numpy, endpoint=True)


def write(directory: Path) -> dict[str, Measured]:
    """The models as files in `directory`: tiny, small and image, and the demo's digits."""
    made = {
        "tiny": (tiny(), Measured(directory / "tiny.tflite", (1, 8, 8, 1), largest=16)),
        "small": (mobilenet_v2(96, 0.35), Measured(directory / "small.tflite", (1, 96, 96, 3))),
        "image": (mobilenet_v2(224, 1.0), Measured(directory / "image.tflite", (1, 224, 224, 3))),
        "digits": (DIGITS.read_bytes(), Measured(directory / "digits.tflite", (1, 8, 8, 1), DType.INT8, 127)),
    }
    for content, model in made.values():
        model.path.write_bytes(content)
    return {name: model for name, (_, model) in made.items()}
