"""Every type of element through the whole server, by every way that a client may send it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.domain.tensors import DType
from tests import tflite_models
from tests.functional.server import Running, serving

INTEGERS = {
    DType.INT8: "INT8", DType.UINT8: "UINT8", DType.INT16: "INT16", DType.INT32: "INT32", DType.INT64: "INT64",
}  # fmt: skip
FLOATS = {DType.FLOAT32: "FP32", DType.FLOAT16: "FP16"}
BINARY = {**INTEGERS, **FLOATS, DType.BOOL: "BOOL"}
HEADER = "Inference-Header-Content-Length"


def name(dtype: DType) -> str:
    return dtype.name.lower()


def extremes(dtype: DType) -> list[Any]:
    """Values of the type, its smallest and largest among them."""
    if dtype is DType.BOOL:
        return [True, False, True]
    if dtype in INTEGERS:
        limits = np.iinfo(dtype.numpy)
        return [int(limits.min), 0, 1, int(limits.max)]
    limits_f = np.finfo(dtype.numpy)
    third = dtype.numpy.type(1) / dtype.numpy.type(3)
    return [float(limits_f.min), float(limits_f.tiny), float(third), float(limits_f.max)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("dtypes")
    contents = {name(dtype): tflite_models.passing(dtype) for dtype in (*BINARY, DType.STRING)}
    contents |= {
        "two": tflite_models.two_ways(),
        "sum": tflite_models.adding(),
        "grid": tflite_models.scaling(2, (-1, -1)),
    }
    for model, content in contents.items():
        version = path / "models" / model / "1"
        version.mkdir(parents=True)
        (version / "model.tflite").write_bytes(content)
    with serving(path, path / "models") as running:
        yield running


@pytest.mark.parametrize("dtype", BINARY, ids=name)
def test_values_of_every_type_come_back_exactly_by_every_way(server: Running, dtype: DType) -> None:
    values, model = extremes(dtype), name(dtype)
    assert same(infer_binary(server, model, BINARY[dtype], np.array(values, dtype.numpy)), values, dtype)
    tensor = {"name": "x", "datatype": BINARY[dtype], "shape": [len(values)], "data": values}
    (output,) = server.json(f"/v2/models/{model}/infer", {"inputs": [tensor]})["outputs"]
    assert (output["datatype"], output["shape"]) == (BINARY[dtype], [len(values)])
    assert same(output["data"], values, dtype)
    if dtype is DType.FLOAT16:
        return  # TensorFlow Serving's JSON does not have it
    assert same(server.json(f"/v1/models/{model}:predict", {"instances": values})["predictions"], values, dtype)
    assert same(server.json(f"/v1/models/{model}:predict", {"inputs": values})["outputs"], values, dtype)


def test_half_floats_in_json_are_refused_as_tensorflow_serving_refuses_them(server: Running) -> None:
    status, body = server.ask("/v1/models/float16:predict", {"instances": [1.0]})
    assert status == 400
    assert b"UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: half" in body


def same(got: Any, values: list[Any], dtype: DType) -> bool:
    return bool(
        np.array_equal(np.array(got).astype(dtype.numpy), np.array(values, dtype.numpy), equal_nan=dtype in FLOATS)
    )


def infer_binary(server: Running, model: str, datatype: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    data = array.tobytes()
    tensor = {
        "name": "x", "datatype": datatype, "shape": list(array.shape), "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    status, body = server.ask(f"/v2/models/{model}/infer", head + data, {HEADER: str(len(head))})
    assert status == 200, body
    return np.frombuffer(body[-array.nbytes :], array.dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_what_is_not_finite_comes_back_as_it_went(server: Running, dtype: DType) -> None:
    if dtype is DType.FLOAT32:
        status, body = server.ask("/v1/models/float32:predict", b'{"instances": [NaN, Infinity, -Infinity]}')
        assert status == 200, body
        assert b"NaN" in body
        nan, plus, minus = json.loads(body)["predictions"]
        assert math.isnan(nan)
        assert (plus, minus) == (math.inf, -math.inf)
    array = np.array([np.nan, np.inf, -np.inf], dtype.numpy)
    assert infer_binary(server, name(dtype), FLOATS[dtype], array).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", INTEGERS, ids=name)
def test_an_integer_that_the_type_cannot_hold_is_refused_and_never_wrapped(server: Running, dtype: DType) -> None:
    limits = np.iinfo(dtype.numpy)
    for value in (int(limits.min) - 1, int(limits.max) + 1):
        assert server.ask(f"/v1/models/{name(dtype)}:predict", {"instances": [value]})[0] == 400
        tensor = {"name": "x", "datatype": INTEGERS[dtype], "shape": [1], "data": [value]}
        assert server.ask(f"/v2/models/{name(dtype)}/infer", {"inputs": [tensor]})[0] == 400
    assert server.ask(f"/v1/models/{name(dtype)}:predict", {"instances": [0.5]})[0] == 400


def test_strings_come_back_as_text_and_as_bytes(server: Running) -> None:
    words = ["", "Grüße", "日本\n", 'a"b\\']
    assert server.json("/v1/models/string:predict", {"instances": words})["predictions"] == words
    raw = base64.b64encode(b"\xff\x00\xfe").decode()
    status, body = server.ask("/v1/models/string:predict", {"instances": [{"b64": raw}]})
    assert status == 200
    assert b'"\xff\\u0000\xfe"' in body, "as it is: only outputs that are named …_bytes go as b64"
    tensor = {"name": "x", "datatype": "BYTES", "shape": [4], "data": words}
    (output,) = server.json("/v2/models/string/infer", {"inputs": [tensor]})["outputs"]
    assert output["data"] == words


def test_a_signature_is_picked_by_its_name(server: Running) -> None:
    for signature, factor in (("double", 2), ("triple", 3)):
        body = {"signature_name": signature, "instances": [1.0, 5.0]}
        assert server.json("/v1/models/two:predict", body)["predictions"] == [factor, 5 * factor]
    status, body_ = server.ask("/v1/models/two:predict", {"signature_name": "nope", "instances": [1.0]})
    assert status == 400
    assert b"nope" in body_


def test_several_inputs_go_by_name_in_rows_and_in_columns(server: Running) -> None:
    rows = [{"a": 1.0, "b": 10.0}, {"a": 2.0, "b": 20.0}]
    assert server.json("/v1/models/sum:predict", {"instances": rows})["predictions"] == [11, 22]
    columns = {"a": [1.0, 2.0], "b": [10.0, 20.0]}
    assert server.json("/v1/models/sum:predict", {"inputs": columns})["outputs"] == [11, 22]


def test_a_free_dimension_takes_every_size_in_turn(server: Running) -> None:
    for rows, columns in ((1, 1), (3, 2), (1, 300), (64, 5), (1, 1)):
        grid = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
        answer = server.json("/v1/models/grid:predict", {"instances": grid.tolist()})["predictions"]
        assert np.array_equal(np.array(answer, np.float32), grid * 2)


def test_a_quantized_model_speaks_floats_to_who_asks_and_where_it_is_configured(tmp_path: Path) -> None:
    digits = Path(__file__).parents[2] / "edge" / "data" / "digits"
    with np.load(digits / "held_back.npz") as held:
        image, label = held["images"][:1].reshape(1, 8, 8, 1).astype(np.float32), int(held["labels"][0])
    settings = ("--model", f"asked={digits / '2'}", "--model", f"always={digits / '2'}")
    with serving(tmp_path, *settings, "--set", "models.always.dequantize=true") as server:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": image.ravel().tolist()}
        asked = server.json("/v2/models/asked/infer", {"inputs": [tensor], "parameters": {"dequantize": True}})[
            "outputs"
        ][0]
        always = server.json("/v2/models/always/infer", {"inputs": [tensor]})["outputs"][0]
        assert asked["datatype"] == always["datatype"] == "FP32"
        assert asked["data"] == always["data"]
        assert int(np.argmax(asked["data"])) == label
        assert server.ask("/v2/models/asked/infer", {"inputs": [tensor]})[0] == 400, "unasked, the model's own type"
        rows = server.json("/v1/models/always:predict", {"instances": image.tolist()})["predictions"]
        assert rows[0] == pytest.approx(always["data"])
