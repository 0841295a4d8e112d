# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["tensorflow==2.21.0", "scikit-learn==1.8.0"]
# ///
"""Train the digits classifier of the demo, quantize it to int8, and write both versions of it.

    uv run examples/digits/train.py [OUT]        # OUT: edge/data/digits by default

Data: scikit-learn's copy of the UCI ML hand-written digits, 1,797 pictures of 8x8 with 0..16 in a pixel. Every ninth
picture is held back: no version ever sees it, and the demo sends it. Version 1 is a linear classifier, trained on an
eighth of the rest; version 2 is a small convolutional net, trained on all of it. So they differ, and measurably.

Each version directory gets
    model.tflite    `image` int8 [?,8,8,1] → `scores` int8 [?,10]; real pixel = 16 * (value + 128) / 255
    labels.txt      zero … nine
    golden.npz      two runs of sixteen pictures with the outputs that LiteRT gave, and how far another
                    runtime or processor may be from them (four steps of the output's scale, for 98 of 100 values)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SEED = 7
HELD_BACK_EVERY = 9
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GOLDEN_RUNS, GOLDEN_ROWS = 2, 16
OUT = Path(__file__).parents[2] / "edge" / "data" / "digits"

Array = npt.NDArray[Any]


def load() -> tuple[Array, Array, Array, Array]:
    """Training images and labels, held-back images and labels. Images float32 [n,8,8,1] of 0..16, labels uint8 [n]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.float32)[..., None]
    labels = digits.target.astype(np.uint8)
    held = np.arange(len(labels)) % HELD_BACK_EVERY == 0
    return images[~held], labels[~held], images[held], labels[held]


def train(version: int, images: Array, labels: Array) -> Any:
    """A Keras model from `image` float32 [?,8,8,1] to `scores` float32 [?,10]."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    layers = tf.keras.layers
    image = tf.keras.Input((8, 8, 1), name="image")
    x = image
    if version == 1:
        images, labels = images[::8], labels[::8]
        x = layers.Flatten()(x)
    else:
        x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(24, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x)
        x = layers.Dense(48, activation="relu")(x)
    scores = layers.Dense(10, activation="softmax", name="scores")(x)
    model = tf.keras.Model(image, {"scores": scores})
    model.compile(tf.keras.optimizers.Adam(0.004), {"scores": "sparse_categorical_crossentropy"})
    model.fit(images, {"scores": labels}, epochs=12 if version == 1 else 30, batch_size=32, verbose=0)
    return model


def quantize(model: Any, sample: Array) -> bytes:
    """Full int8: weights, activations, input and output."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as saved:
        model.export(saved, format="tf_saved_model", verbose=False)
        return _convert(tf.lite.TFLiteConverter.from_saved_model(saved), sample)


def _convert(converter: Any, sample: Array) -> bytes:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in sample)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def run(model: bytes, images: Array) -> Array:
    """Real pixels float32 [n,8,8,1] → int8 scores [n,10]."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=model)
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], as_input(images, *given["quantization"]))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(got["index"]))


def as_input(images: Array, scale: float, zero_point: int) -> Array:
    return np.clip(np.round(images / scale) + zero_point, -128, 127).astype(np.int8)


def write(out: Path, version: int, model: bytes, golden_images: Array) -> None:
    import tensorflow as tf

    directory = out / str(version)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.tflite").write_bytes(model)
    (directory / "labels.txt").write_text("\n".join(NAMES) + "\n")
    quantization = tf.lite.Interpreter(model_content=model).get_input_details()[0]["quantization"]
    inputs = as_input(golden_images, *quantization).reshape(GOLDEN_RUNS, GOLDEN_ROWS, 8, 8, 1)
    outputs = run(model, golden_images).reshape(GOLDEN_RUNS, GOLDEN_ROWS, 10)
    np.savez_compressed(
        directory / "golden.npz",
        **{"input:image": inputs, "output:scores": outputs},
        atol=np.float64(4),
        rtol=np.float64(0),
        min_match=np.float64(0.98),
        max_ms=np.float64(1000),
    )


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    images, labels, held_images, held_labels = load()
    for version in (1, 2):
        model = quantize(train(version, images, labels), images[:200])
        right = (run(model, held_images).argmax(1) == held_labels).mean()
        write(out, version, model, held_images[: GOLDEN_RUNS * GOLDEN_ROWS])
        print(f"version {version}: {len(model):,} bytes, {right:.1%} of {len(held_labels)} held-back digits right")
    np.savez_compressed(out / "held_back.npz", images=held_images[..., 0].astype(np.uint8), labels=held_labels)


if __name__ == "__main__":
    main()
