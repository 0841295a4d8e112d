"""SavedModels for the tests, made by TensorFlow and Keras when they are asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

F32, STRING, I32 = tf.float32, tf.string, tf.int32


def spec(shape: list[int | None] | None, dtype: Any = F32) -> Any:
    return tf.TensorSpec(shape, dtype)


def function(body: Any, *specs: Any) -> Any:
    return tf.function(body, input_signature=specs)


def save(path: Path, owner: Any, **signatures: Any) -> Path:
    tf.saved_model.save(owner, str(path), signatures=signatures)
    return path


def scaling(path: Path, factor: float = 2.0, shape: list[int | None] | None = None) -> Path:
    """`x` float32 [?,2] → `y`, each times a variable."""
    owner = tf.Module()
    owner.factor = tf.Variable(factor)

    def run(x: Any) -> Any:
        return {"y": x * owner.factor}

    return save(path, owner, serving_default=function(run, spec(shape or [None, 2])))


def several(path: Path) -> Path:
    """Signatures of every kind: `serving_default`, `upper` of strings, `same` gives back what it is given, `sum` of two."""
    owner = tf.Module()
    owner.factor = tf.Variable(3.0)
    same = function(lambda x: {"x": x}, spec([3]))
    upper = function(lambda s: {"u": tf.strings.upper(s)}, spec([None], STRING))
    rank = function(lambda x: {"r": tf.rank(x), "total": tf.reduce_sum(x)}, spec(None))

    def add(first: Any, second: Any) -> Any:
        return {"sum-1": first + second, "x": first * owner.factor}

    def bad(x: Any) -> Any:
        return {"z": tf.cast(x, tf.complex64)}

    return save(
        path,
        owner,
        serving_default=function(add, spec([None, 2]), spec([None, 2])),
        same=same,
        upper=upper,
        rank=rank,
        imaginary=function(bad, spec([None])),
    )


def keras(path: Path) -> Path:
    """What `model.export` makes of four numbers → two, with a softmax."""
    tf.keras.utils.set_random_seed(7)
    given = tf.keras.Input((4,), name="x")
    model = tf.keras.Model(given, tf.keras.layers.Dense(2, activation="softmax", name="scores")(given))
    model.export(path, verbose=False)
    return path


def vocabulary(path: Path) -> Path:
    """Words → their numbers, from a file among the assets."""
    words = path.parent / "words.txt"
    words.write_text("cat\ndog\nbird\n")
    owner = tf.Module()
    first = tf.lookup.TextFileInitializer(
        str(words), STRING, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    owner.table = tf.lookup.StaticHashTable(first, -1)
    save(path, owner, serving_default=function(lambda w: {"n": owner.table.lookup(w)}, spec([None], STRING)))
    words.unlink()
    return path


def v1(path: Path, tags: tuple[str, ...] = ("serve",)) -> Path:
    """As TensorFlow 1 wrote them: a session, a variable, a classify signature over serialized examples."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(F32, [None, 2], name="given")
        w = v1.get_variable("w", initializer=tf.constant([[1.0], [10.0]]))
        y = tf.matmul(x, w, name="made")
        examples = v1.placeholder(STRING, [None], name="examples")
        parsed = v1.io.parse_example(examples, {"x": v1.io.FixedLenFeature([2], F32)})
        scores = tf.matmul(parsed["x"], w)
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        make = v1.saved_model.build_signature_def
        predict = make({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict")
        classify = make({"inputs": info(examples)}, {"scores": info(scores)}, "tensorflow/serving/classify")
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, list(tags), {"serving_default": predict, "classes": classify})
        builder.save()
    return path


def endless(path: Path) -> Path:
    """A run of it never ends."""

    def run(x: Any) -> Any:
        return {"y": tf.while_loop(lambda n: n >= 0.0, lambda n: n * 0.5, [tf.reduce_sum(tf.abs(x))])[0]}

    return save(path, tf.Module(), serving_default=function(run, spec([None])))


def remembering(path: Path) -> Path:
    """`keep` puts its input into a variable, `kept` tells it."""
    owner = tf.Module()
    owner.kept = tf.Variable(tf.zeros([32_000]))

    def keep(x: Any) -> Any:
        owner.kept.assign(x)
        return {"y": x[:1]}

    def kept(x: Any) -> Any:
        return {"y": owner.kept + x}

    return save(path, owner, serving_default=function(keep, spec([32_000])), kept=function(kept, spec([32_000])))


def picky(path: Path) -> Path:
    """Refuses an empty text, and says what is wrong with it."""

    def run(s: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_greater(tf.strings.length(s), 0, "want a text")]):
            return {"n": tf.strings.length(s)}

    return save(path, tf.Module(), serving_default=function(run, spec([None], STRING)))


def image(path: Path, side: int = 224) -> Path:
    """A picture of floats → as large a picture: what crosses is 600 KB each way."""
    return save(path, tf.Module(), serving_default=function(lambda x: {"y": x + 1.0}, spec([None, side, side, 3])))


def without_variables(path: Path) -> Path:
    scaling(path)
    shutil.rmtree(path / "variables")
    return path


def without_signatures(path: Path) -> Path:
    return save(path, tf.Module())


def crashing(path: Path) -> Path:
    """A run of it ends its process."""

    def run(x: Any) -> Any:
        with tf.control_dependencies([tf.raw_ops.Abort(error_msg="told to")]):
            return {"y": tf.identity(x)}

    return save(path, tf.Module(), serving_default=function(run, spec([None])))
