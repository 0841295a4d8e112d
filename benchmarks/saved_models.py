"""SavedModels that are measured, made by TensorFlow: `python -m benchmarks.saved_models DIR tiny|picky|small`, with TensorFlow's environment.

Each answers with the index of the largest score, which is the same for a row in whatever company it is computed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

SIDE, CLASSES = 96, 1001


def tiny(path: Path) -> None:
    """`image` uint8 [?,8,8,1] → `best` int64 [?]: a layer of 32 and one of 10."""
    owner = tf.Module()
    random = tf.random.Generator.from_seed(7)
    owner.first, owner.second = tf.Variable(random.normal((64, 32))), tf.Variable(random.normal((32, 10)))

    def run(image: Any) -> Any:
        hidden = tf.nn.relu(tf.reshape(tf.cast(image, tf.float32), (-1, 64)) @ owner.first)
        return {"best": tf.argmax(hidden @ owner.second, axis=1)}

    _save(path, owner, run, (8, 8, 1))


def picky(path: Path) -> None:
    """As `tiny`, but the run fails where all values of a row are 255."""
    owner = tf.Module()
    owner.layer = tf.Variable(tf.random.Generator.from_seed(7).normal((64, 10)))

    def run(image: Any) -> Any:
        with tf.control_dependencies(
            [tf.debugging.assert_less(tf.reduce_min(image, (1, 2, 3)), tf.constant(255, tf.uint8))]
        ):
            rows = tf.reshape(tf.cast(image, tf.float32), (-1, 64))
        return {"best": tf.argmax(rows @ owner.layer, axis=1)}

    _save(path, owner, run, (8, 8, 1))


def small(path: Path) -> None:
    """`image` uint8 [?,96,96,3] → `best` int64 [?]: MobileNetV2 0.35, weights that nobody trained."""
    tf.keras.utils.set_random_seed(7)
    owner = tf.Module()
    net = tf.keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=0.35, weights=None, classes=CLASSES)
    owner.variables_of_net = [each.value for each in net.variables]  # a module finds no others of Keras

    def run(image: Any) -> Any:
        scores = net(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False)
        return {"best": tf.argmax(scores, axis=1)}

    _save(path, owner, run, (SIDE, SIDE, 3))


def _save(path: Path, owner: Any, run: Any, shape: tuple[int, ...]) -> None:
    signature = tf.function(run, input_signature=[tf.TensorSpec([None, *shape], tf.uint8, name="image")])
    tf.saved_model.save(owner, str(path), signatures={"serving_default": signature})


if __name__ == "__main__":
    {"tiny": tiny, "picky": picky, "small": small}[sys.argv[2]](Path(sys.argv[1]) / sys.argv[2] / "1")
