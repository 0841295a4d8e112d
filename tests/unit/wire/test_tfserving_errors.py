import json

import pytest

from edge.domain.errors import (
    BadOutputs,
    DeadlineExceeded,
    EdgeError,
    Forbidden,
    GraphFailed,
    InferenceFailed,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
    TensorMismatch,
    TooLarge,
    UnknownLabel,
    UnknownSignature,
    Unsupported,
    WorkerLost,
)
from edge.domain.models import ModelSpec
from edge.domain.tensors import DType, TensorSpec
from edge.wire.tfserving_errors import error_body, error_response
from edge.wire.tfserving_routes import Malformed, Verb

M, M3 = ModelSpec("m"), ModelSpec("m", 3)
MISMATCH = TensorMismatch(TensorSpec("x", DType.FLOAT32, (-1, 4)), "float32", (2, 3))


@pytest.mark.parametrize(
    ("error", "verb", "status", "message"),
    [
        (NotFound(M, model_known=False), "predict", 404, "Servable not found for request: Latest(m)"),
        (NotFound(M3, model_known=True), "metadata", 404, "Servable not found for request: Specific(m, 3)"),
        (NotFound(M, model_known=False), "status", 404, "Could not find any versions of model m"),
        (NotFound(M3, model_known=True), "status", 404, "Could not find version 3 of model m"),
        (UnknownLabel(ModelSpec("m", label="l")), "predict", 400, "Unrecognized servable version label: l"),
        (UnknownSignature("s", ["a"]), "predict", 400, 'Serving signature name: "s" not found in signature def'),
        (UnknownSignature("s", ["a"]), "classify", 400, "No signature was found with the name: s"),
        (UnknownSignature("s", ["a"]), "regress", 400, "No signature was found with the name: s"),
        (BadOutputs("outputs: want at most 9 bytes of tensors in a run, got 10"), "predict", 500,
         "outputs: want at most 9 bytes of tensors in a run, got 10"),
        (GraphFailed("Graph execution error: no such resource"), "predict", 500, "Graph execution error: no such resource"),
        (WorkerLost("the run failed: its worker was killed (SIGKILL)"), "predict", 500,
         "the run failed: its worker was killed (SIGKILL)"),
        (InferenceFailed("node 3 at 0x7f"), "predict", 500, "Failed to invoke TfLite interpreter"),
        (Overloaded("m: 256 requests wait already (max_queue)"), "predict", 503,
         "The batch scheduling queue to which this task was submitted is full; m: 256 requests wait already (max_queue)"),
        (MISMATCH, "predict", 400, "x: want float32 [?,4], got float32 [2,3]"),
        (Unsupported("u"), "predict", 501, "u"), (TooLarge("t"), "predict", 413, "t"), (NotReady("n"), "predict", 503, "n"),
        (DeadlineExceeded("d"), "predict", 504, "d"), (Forbidden("f"), "predict", 403, "f"), (InvalidInput("i"), "predict", 400, "i"),
    ],
)  # fmt: skip
def test_an_error_has_the_contracts_status_and_text(error: EdgeError, verb: Verb, status: int, message: str) -> None:
    found, body = error_response(error, verb)
    assert found == status
    assert json.loads(body) == {"error": message}


def test_an_error_is_laid_out_as_rapidjson_prints_it() -> None:
    assert error_body('a "b"\\/\n\x1f é \udcff') == b'{\n    "error": "a \\"b\\"\\\\/\\n\\u001F \xc3\xa9 \xff"\n}'


def test_a_malformed_request_without_a_text_has_an_empty_body() -> None:
    assert error_response(Malformed("")) == (400, b"")
    assert error_response(Malformed("Malformed request: GET /v1/x"))[1] == error_body("Malformed request: GET /v1/x")
