"""A photograph, a real quantized classifier, and the answer that a person would give."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import Target
from edge.domain.tensors import DType, Quantization, Signature, TensorSpec
from edge.wire.classes import Choice, top_k
from edge.wire.image import ImagePayload
from tests.data import shared_data

PHOTOGRAPHS = [
    ("cat.bmp", 286, "Egyptian cat", 194),
    ("bird.bmp", 20, "chickadee", 251),
    ("grace_hopper.bmp", 653, "military uniform", 228),
]


class Classifier:
    """MobileNetV2 of 224×224 uint8, run by the interpreter itself."""

    def __init__(self, model: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(shared_data(model)))
        self._interpreter.allocate_tensors()
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self.names = tuple(shared_data("imagenet_labels.txt").read_text().splitlines())
        self.target = Target(
            ModelId("mobilenet", 1),
            Signature("serving_default", {"x": self._spec(self._input)}, {"scores": self._spec(self._output)}),
            ImageOptions(),
        )

    @staticmethod
    def _spec(details: dict[str, Any]) -> TensorSpec:
        dtype = DType(np.dtype(details["dtype"]).name)
        return TensorSpec(details["name"], dtype, tuple(details["shape"]), Quantization(*details["quantization"]))

    def first_choice(self, body: bytes, media_type: str) -> Choice:
        tensor = ImagePayload(body, media_type).bind(self.target)["x"]
        self._interpreter.set_tensor(self._input["index"], tensor)
        self._interpreter.invoke()
        scores = {"scores": self._interpreter.get_tensor(self._output["index"])}
        return top_k(scores, self.target.signature.outputs, self.names, 5)[0][0]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("mobilenet_v2_1.0_224_quant.tflite")


def converted(name: str, kind: str, enlarge: int = 1) -> bytes:
    image: Image.Image = Image.open(shared_data(name))
    if enlarge > 1:
        image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BICUBIC)
    stream = BytesIO()
    image.save(stream, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.mark.parametrize(("name", "index", "label", "score"), PHOTOGRAPHS)
def test_a_lossless_photograph_gives_the_reference_scores(
    classifier: Classifier, name: str, index: int, label: str, score: int
) -> None:
    for body, media_type in (
        (shared_data(name).read_bytes(), "image/bmp"),
        (converted(name, "PNG"), "image/png"),
    ):
        choice = classifier.first_choice(body, media_type)
        assert (choice.index, choice.quantized) == (index, score)
        assert choice.label.startswith(label) or label in choice.label
        assert choice.score == pytest.approx(score / 256)


@pytest.mark.parametrize("enlarge", [1, 6])
@pytest.mark.parametrize(("name", "index", "label", "score"), PHOTOGRAPHS)
def test_a_jpeg_of_it_however_large_gives_nearly_the_same(
    classifier: Classifier, name: str, index: int, label: str, score: int, enlarge: int
) -> None:
    choice = classifier.first_choice(converted(name, "JPEG", enlarge), "image/jpeg")
    assert choice.index == index
    assert abs((choice.quantized or 0) - score) <= 24


def test_a_handwritten_digit_reaches_a_model_without_an_axis_for_channels() -> None:
    digits = Classifier("keras_lstm_mnist_ptq.tflite")
    assert digits.first_choice(shared_data("mnist_nine.bmp").read_bytes(), "image/bmp").index == 9
