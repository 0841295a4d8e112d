"""Requests that no honest client sends: each gets the contract's status and text, and the server serves on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.functional.raw import Wire, ask, request
from tests.functional.server import Running, serving
from tests.functional.zoo import HALF, HALVED, PIXELS, zoo

V1, DIGITS_V1 = "/v1/models/half:predict", "/v1/models/digits:predict"
V2, DIGITS_V2 = "/v2/models/half/infer", "/v2/models/digits/infer"
NAN = math.nan


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("hostile")
    with serving(directory, zoo(directory / "models")) as server:
        yield server


@pytest.fixture
def server(shared: Running) -> Iterator[Running]:
    """The shared server, which after the test is alive, serves, and has logged no bug."""
    yield shared
    answer = ask(shared.port, "POST", V1, HALF)
    assert (answer.status, answer.json()) == (200, HALVED)
    assert "Traceback" not in shared.log.read_text()


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def pixels(value: object) -> bytes:
    return dumps({"instances": [[[[value]] * 8] * 8]})


def nested(depth: int) -> bytes:
    return b"[" * depth + b"1" + b"]" * depth


ELEMENT = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
DEEP_V1 = "JSON Parse error: Nested deeper than 64 levels. at offset: "
ONE = b'{"instances": [1]}'

V1_TABLE: list[tuple[str, str, bytes, int, str]] = [
    # what it is, target, body, status, error
    ("not JSON", V1, b"instances = [1, 2]", 400, "JSON Parse error: Invalid value. at offset: 0"),
    ("a picture, unnamed", V1, b"\xff\xd8\xff\xe0", 400, "offset: 0; these are the bytes of a picture: send the header 'Content-Type: image/jpeg'"),
    ("truncated", V1, b'{"instances": [1,2]', 400, "JSON Parse error: Missing a comma or '}' after an object member. at offset: 19"),
    ("empty", V1, b"", 400, "JSON Parse error: The document is empty"),
    ("a NUL", V1, b"\0", 400, "JSON Parse error: The document is empty. at offset: 0"),
    ("UTF-16", V1, HALF.decode().encode("utf-16"), 400, "JSON Parse error: Invalid value. at offset: 0"),
    ("100,000 brackets", V1, b"[" * 100_000, 400, DEEP_V1 + "64"),
    ("100,000 brackets, closed", V1, b'{"instances": ' + nested(100_000) + b"}", 400, DEEP_V1 + "77"),
    ("100,000 braces", V1, b'{"a":' * 100_000, 400, DEEP_V1 + "320"),
    ("65 levels in a key that nobody reads", V1, b'{"x": ' + nested(64) + b"}", 400, DEEP_V1 + "69"),
    ("no object", V1, b"[1]", 400, "JSON Value: [1] Is not object"),
    ("neither key", V1, b"{}", 400, "Missing 'inputs' or 'instances' key"),
    ("both keys", V1, b'{"instances": [1], "inputs": [1]}', 400, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "),
    ("no rows", V1, b'{"instances": []}', 400, "No values in 'instances' array"),
    ("rows that are no list", V1, b'{"instances": 1}', 400, "Expecting 'instances' to be an list/array"),
    ("duplicate keys, the first of them wrong", V1, b'{"instances": "x", "instances": [1]}', 400, "Expecting 'instances' to be an list/array"),
    ("a signature that is no string", V1, b'{"signature_name": 1, "instances": [1]}', 400, "'signature_name' key must be a string value."),
    ("an unknown signature", V1, b'{"signature_name": "nope", "instances": [1]}', 400, 'Serving signature name: "nope" not found in signature def'),
    ("ragged: a list for a number", V1, b'{"instances": [[1, [2]]]}', 400, ELEMENT + "Encountered list at unexpected level: 1 expected < 1"),
    ("ragged: a number for a list", V1, b'{"instances": [[[1], 2]]}', 400, ELEMENT + "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ("ragged: rows of two lengths", V1, b'{"instances": [[[1, 2], [3]]]}', 400, ELEMENT + "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("a second row of another size", V1, b'{"instances": [[1, 2], [3]]}', 400, "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1"),
    ("wrong rank", DIGITS_V1, dumps({"inputs": PIXELS}), 400, "image: want int8 [?,8,8,1], got int8 [8,8,1]"),
    ("a string for a number", DIGITS_V1, pixels("a"), 400, ELEMENT + 'JSON Value: "a" Type: String is not of expected type: int8'),
    ("a fraction for an integer", DIGITS_V1, pixels(1.5), 400, ELEMENT + "JSON Value: 1.5 Type: Number is not of expected type: int8"),
    ("true for an integer", DIGITS_V1, pixels(True), 400, ELEMENT + "JSON Value: true Type: True is not of expected type: int8"),
    ("null for an integer", DIGITS_V1, pixels(None), 400, ELEMENT + "JSON Value: null Type: Null is not of expected type: int8"),
    ("above int8", DIGITS_V1, pixels(128), 400, "128 is out of range for int8"),
    ("below int8", DIGITS_V1, pixels(-129), 400, "-129 is out of range for int8"),
    ("above int64", DIGITS_V1, pixels(2**70), 400, "is not of expected type: int8"),
    ("NaN for an integer", DIGITS_V1, pixels(NAN), 400, "Type: Number is not of expected type: int8"),
    ("above int32", "/v1/models/ints:predict", b'{"instances": [2147483648]}', 400, "Type: Number is not of expected type: int32"),
    ("a number for a truth", "/v1/models/flags:predict", ONE, 400, "JSON Value: 1 Type: Number is not of expected type: bool"),
    ("above double", V1, b'{"instances": [1e400]}', 400, "JSON Parse error: Number too big to be stored in double. at offset: 15"),
    ("100,000 digits", V1, b'{"instances": [' + b"1" * 100_000 + b"]}", 400, "JSON Parse error: Number too big to be stored in double. at offset: 15"),
    ("bad base64", "/v1/models/words:predict", b'{"instances": [{"b64": "!!!!"}]}', 400, ELEMENT + "Unable to base64 decode"),
    ("half a surrogate", V1, b'{"instances": [1], "x": "\\ud800"}', 400, "JSON Parse error: The surrogate pair in string is invalid."),
    ("a plain list for two inputs", "/v1/models/sum:predict", ONE, 400, "instances is a plain list, but expecting list of objects"),
    ("an input that is missing", "/v1/models/sum:predict", b'{"inputs": {"a": [1]}}', 400, "Missing named input: b in 'inputs' object."),
    ("an input too many", "/v1/models/sum:predict", b'{"instances": [{"a": 1, "b": 2, "c": 3}]}', 400, "JSON object: does not have named input: c"),
    ("shapes that the graph cannot take", "/v1/models/sum:predict", b'{"inputs": {"a": [1, 2], "b": [1, 2, 3]}}', 500, "Failed to invoke TfLite interpreter"),
    ("an index beyond the model's table", "/v1/models/pick:predict", b'{"instances": [7000000]}', 500, "Failed to invoke TfLite interpreter"),
    ("an unknown model", "/v1/models/nope:predict", ONE, 404, "Servable not found for request: Latest(nope)"),
    ("an unknown version", "/v1/models/half/versions/9:predict", ONE, 404, "Servable not found for request: Specific(half, 9)"),
    ("an unknown label", "/v1/models/half/labels/x:predict", ONE, 400, "Unrecognized servable version label: x"),
    ("a version over int64", "/v1/models/half/versions/9223372036854775808:predict", ONE, 400, ""),
    ("a version of 5,000 digits", "/v1/models/half/versions/" + "9" * 5_000 + ":predict", ONE, 400, ""),
    ("a path in a name", "/v1/models/%2Fetc%2Fpasswd:predict", ONE, 404, "Servable not found for request: Latest(/etc/passwd)"),
    ("dots in a name", "/v1/models/%2e%2e%2fhalf:predict", ONE, 404, "Servable not found for request: Latest(../half)"),
    ("dots in the path", "/v1/models/../half:predict", ONE, 400, "Malformed request: POST /v1/models/../half:predict"),
    ("a NUL in a name", "/v1/models/half%00:predict", ONE, 404, "Servable not found for request: Latest(half\0)"),
    ("half an escape", "/v1/models/%zz:predict", ONE, 400, ""),
    ("bytes in a name that are no text", "/v1/models/half%FF:predict", ONE, 404, "Servable not found for request: Latest(half\N{REPLACEMENT CHARACTER})"),
    ("an unknown verb", "/v1/models/half:explode", ONE, 400, "Malformed request: POST /v1/models/half:explode"),
    ("classes of what is no classifier", "/v1/models/half:classify", b'{"examples": [{"x": 1}]}', 400, "Expected classification signature method_name to be tensorflow/serving/classify."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "body", "status", "text"), [row[1:] for row in V1_TABLE], ids=[row[0] for row in V1_TABLE]
)
def test_v1_answers_a_hostile_request_in_the_words_of_the_contract(
    server: Running, target: str, body: bytes, status: int, text: str
) -> None:
    answer = ask(server.port, "POST", target, body)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    if text:
        assert text in answer.error
    else:
        assert answer.body == b""


@pytest.mark.parametrize(
    ("body", "predictions"),
    [
        (b'{"instances": [1], "instances": "x"}', [0.5]),
        (b'{"instances": [1], "x": "\xff\xfe"}', [0.5]),
        (b'{"instances": [1]} and then some', [0.5]),
        (b"\xef\xbb\xbf" + ONE, [0.5]),
        (b'{"instances": [1], "x": ' + nested(63) + b"}", [0.5]),
        (b'{"instances": [1e39, -Infinity]}', [math.inf, -math.inf]),
    ],
    ids=["duplicate keys", "bad UTF-8", "a tail", "a byte order mark", "64 levels", "beyond float32"],
)
def test_v1_takes_what_tensorflow_serving_takes(server: Running, body: bytes, predictions: list[float]) -> None:
    answer = ask(server.port, "POST", V1, body)
    assert (answer.status, answer.json()) == (200, {"predictions": predictions})


def tensor(
    name: str = "x", datatype: object = "FP32", shape: object = (1,), data: object = (1.0,), **more: Any
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


def infer(*inputs: object, **more: object) -> bytes:
    return dumps({"inputs": inputs, **more})


def image(value: object, shape: Sequence[int] = (1, 8, 8, 1)) -> bytes:
    return infer(tensor("image", "INT8", shape, [value] * 64))


X = infer(tensor())
NO_ID = "[request id: <id_unknown>] "
PARSE = "failed to parse the request JSON buffer: "
DATA, SHAPE = "Unable to parse 'data': ", "Unable to parse 'shape': "
UNKNOWN = "Request for unknown model: "
UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"

V2_TABLE: list[tuple[str, str, bytes, int, str]] = [
    ("not JSON", V2, b"not json", 400, PARSE + "Invalid value. at 1"),
    ("truncated", V2, b"{", 400, PARSE + "Missing a name for object member. at 1"),
    ("no object", V2, b"[]", 400, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    ("no inputs", V2, b"{}", 400, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    ("inputs that are no list", V2, b'{"inputs": 1}', 400, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
    ("an empty list of inputs", V2, b'{"inputs": []}', 400, NO_ID + "expected 1 inputs but got 0 inputs for model 'half'."),
    ("100,000 brackets", V2, b"[" * 100_000, 400, PARSE + "Nested deeper than 64 levels. at "),
    ("100,000 braces", V2, b'{"x":' * 100_000, 400, PARSE + "Nested deeper than 64 levels. at "),
    ("100,000 brackets as data", V2, X.replace(b"[1.0]", nested(100_000)), 400, PARSE + "Nested deeper than 64 levels. at "),
    ("fewer data than the shape says", V2, infer(tensor(shape=[2])), 400, DATA + "Shape does not match true shape of 'data' field"),
    ("ragged", V2, infer(tensor(shape=[2], data=[[1.0], 2.0])), 400, DATA + "Shape does not match true shape of 'data' field"),
    ("wrong rank", V2, infer(tensor(shape=[1, 1])), 400, NO_ID + "unexpected shape for input 'x' for model 'half'. Expected [-1], got [1,1]."),
    ("a negative size", V2, infer(tensor(shape=[-1])), 400, SHAPE + UNSIGNED),
    ("a fraction of a size", V2, infer(tensor(shape=[1.5])), 400, SHAPE + UNSIGNED),
    ("a size over int64", V2, infer(tensor(shape=[2**70])), 400, SHAPE + "attempt to access JSON non-unsigned-integer as unsigned-integer"),
    ("sizes whose product is over int64", V2, infer(tensor(shape=[2**62, 4])), 400, "causes total element count to exceed maximum size"),
    ("a shape that is no list", V2, infer(tensor(shape="x")), 400, SHAPE + "attempt to access JSON non-array as array"),
    ("an unknown datatype", V2, infer(tensor(datatype="FP99")), 400, "invalid datatype for input x"),
    ("another datatype", V2, infer(tensor(datatype="INT32", data=[1])), 400, NO_ID + "inference input 'x' data-type is 'INT32', but model 'half' expects 'FP32'"),
    ("a string for a number", V2, infer(tensor(data=["a"])), 400, DATA + "attempt to access JSON non-number as double"),
    ("above double", V2, X.replace(b"1.0", b"1e400"), 400, PARSE + "Number too big to be stored in double."),
    ("above int8", DIGITS_V2, image(300), 400, DATA + "300 is out of range: want INT8 from -128 to 127"),
    ("NaN for an integer", DIGITS_V2, image(NAN), 400, DATA + "attempt to access JSON non-signed-integer as signed-integer"),
    ("a fraction for an integer", DIGITS_V2, image(1.5), 400, DATA + "attempt to access JSON non-signed-integer as signed-integer"),
    ("an image of another rank", DIGITS_V2, image(1, (8, 8)), 400, NO_ID + "unexpected shape for input 'image' for model 'digits'. Expected [-1,8,8,1], got [8,8]."),
    ("bad UTF-8 in a string", "/v2/models/words/infer", infer(tensor(datatype="BYTES", data=["?"])).replace(b"?", b"\xff"), 400, PARSE + "Invalid encoding in string."),
    ("half a surrogate", V2, infer(tensor(), id="\ud800"), 400, PARSE + "The surrogate pair in string is invalid."),
    ("one input twice", V2, infer(tensor(), tensor()), 400, NO_ID + "input 'x' already exists in request"),
    ("an input that nobody has", V2, infer(tensor("q")), 400, "unexpected inference input 'q' for model 'half'"),
    ("an input that is missing", "/v2/models/sum/infer", infer(tensor("a")), 400, "Got input(s) ['a'], but missing required input(s) ['b']. Please provide all required input(s)."),
    ("an output that nobody has", V2, infer(tensor(), outputs=[{"name": "zz"}]), 400, "unexpected inference output 'zz' for model 'half'"),
    ("a signature that nobody has", V2, infer(tensor(), parameters={"signature_name": "nope"}), 400, "signature 'nope': no such signature"),
    ("an index beyond the model's table", "/v2/models/pick/infer", infer(tensor("at", "INT32", data=[7_000_000])), 500, ""),
    ("an unknown model", "/v2/models/nope/infer", X, 404, UNKNOWN + "'nope' is not found"),
    ("an unknown version", "/v2/models/half/versions/9/infer", X, 404, UNKNOWN + "'half' version 9 is not found"),
    ("a version over int64", "/v2/models/half/versions/9223372036854775808/infer", X, 404, "Not Found"),
    ("a path in a name", "/v2/models/%2Fetc%2Fpasswd/infer", X, 404, UNKNOWN + "'/etc/passwd' is not found"),
    ("dots in a name", "/v2/models/..%2Fhalf/infer", X, 404, UNKNOWN + "'../half' is not found"),
    ("dots in the path", "/v2/models/../half/infer", X, 404, "Not Found"),
    ("an unload that is not allowed", "/v2/repository/models/half/unload", b"", 403, "explicit model load / unload is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "body", "status", "text"), [row[1:] for row in V2_TABLE], ids=[row[0] for row in V2_TABLE]
)
def test_v2_answers_a_hostile_request_in_the_words_of_the_contract(
    server: Running, target: str, body: bytes, status: int, text: str
) -> None:
    answer = ask(server.port, "POST", target, body)
    assert answer.status == status, answer
    assert text in answer.error


def lying(size: object, head_size: str = "", data: bytes = b"\0" * 8) -> tuple[str, bytes]:
    head = dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}]}
    )
    return head_size or str(len(head)), head + data


WORDS = dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}]})
BINARY_TABLE: list[tuple[str, str, tuple[str, bytes], str]] = [
    # what it is, target, (Inference-Header-Content-Length, body), error
    ("less binary data than came", V2, lying(7), "unexpected additional input data for model 'half'"),
    ("more binary data than came", V2, lying(9), "unexpected size for input 'x', expecting 1 additional bytes for model 'half'"),
    ("less binary data than the shape", V2, lying(4, data=b"\0" * 4), NO_ID + "input byte size mismatch for input 'x' for model 'half'. Expected 8, got 4"),
    ("a size over int64", V2, lying(2**63), "Unable to parse 'binary_data_size': want at most 9223372036854775807, got more"),
    ("a negative size", V2, lying(-1), f"Unable to parse 'binary_data_size': {UNSIGNED}"),
    ("a size that is no number", V2, lying("8"), f"Unable to parse 'binary_data_size': {UNSIGNED}"),
    ("a header one byte too short", V2, lying(8, "99"), PARSE + "Missing a comma or '}' after an object member. at 99"),
    ("a header one byte too long", V2, lying(8, "101"), PARSE + "The document root must not be followed by other values. at 100"),
    ("a header longer than the body", V2, lying(8, "99999"), "inference header size should be in range (0, 108), got: 99999"),
    ("a negative header", V2, lying(8, "-1"), "Unable to parse Inference-Header-Content-Length, got: -1"),
    ("a header that is no number", V2, lying(8, "1e2"), "Unable to parse Inference-Header-Content-Length, got: 1e2"),
    ("a header of 30 digits", V2, lying(8, "9" * 30), "Unable to parse Inference-Header-Content-Length, got: 999"),
    ("a string longer than the data", "/v2/models/words/infer", (str(len(WORDS)), WORDS + b"\xff\xff\xff\xff1234"), "element 0: want 4294967295 bytes, got 4"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "sent", "text"), [row[1:] for row in BINARY_TABLE], ids=[row[0] for row in BINARY_TABLE]
)
def test_binary_sizes_that_lie_are_found_out(server: Running, target: str, sent: tuple[str, bytes], text: str) -> None:
    answer = ask(server.port, "POST", target, sent[1], [f"Inference-Header-Content-Length: {sent[0]}"])
    assert answer.status == 400, answer
    assert text in answer.error


@pytest.mark.parametrize("target", [DIGITS_V1, DIGITS_V2])
@pytest.mark.parametrize(
    ("media", "status"), [("image/jpeg", 400), ("image/png", 400), ("image/bmp", 400), ("image/tiff", 415)]
)
def test_what_is_no_picture_is_told_so(server: Running, target: str, media: str, status: int) -> None:
    answer = ask(server.port, "POST", target, b"\x89PNG\r\n\x1a\nand no more", [f"Content-Type: {media}"])
    assert answer.status == status
    assert "picture: want" in answer.error


@pytest.mark.parametrize("target", [DIGITS_V1, DIGITS_V2])
def test_a_query_of_too_many_fields_is_told_so(server: Running, target: str) -> None:
    answer = ask(server.port, "POST", f"{target}?{'a=1&' * 101}", b"any", ["Content-Type: image/png"])
    assert (answer.status, answer.error) == (400, "want at most 100 fields in a query, got more")


@pytest.mark.parametrize("given", ["-1", "0", "nan", "inf", "1e999", "soon", ""])
def test_a_deadline_that_is_none_is_refused(server: Running, given: str) -> None:
    for target, body in ((V1, HALF), (V2, X)):
        answer = ask(server.port, "POST", target, body, [f"X-Request-Timeout-Ms: {given}"])
        assert answer.status == 400
        assert answer.error.startswith("X-Request-Timeout-Ms: want a number of milliseconds up to 86400000, got")


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "PATCH"])
def test_other_verbs_are_refused(server: Running, verb: str) -> None:
    answer = ask(server.port, verb, V1)
    assert (answer.status, answer.error) == (400, f"Malformed request: {verb} {V1}")
    assert (ask(server.port, verb, V2).status, ask(server.port, verb, "/").status) == (405, 405)
    assert ask(server.port, verb, "/nowhere").status == 404


def test_a_hundred_hostile_requests_on_one_connection_are_each_answered(server: Running) -> None:
    rows = [row for table in (V1_TABLE, V2_TABLE) for row in table]
    with Wire(server.port) as wire:
        for what, target, body, status, _ in rows:
            assert wire.ask(request("POST", target, body)).status == status, what
        assert wire.ask(request("POST", V1, HALF)).json() == HALVED
