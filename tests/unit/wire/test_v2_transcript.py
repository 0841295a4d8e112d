"""Exchanges with a real Triton 2.51.0 that serves `half` and `two`, and what is answered here instead where it differs.

It differs in this: a request that cannot be read is a 400, as the specification has it, not a 500; an unexpected shape
is told without the paragraph on max_batch_size; `GET /v2/models` exists.
"""

import json

import pytest

from tests.unit.wire.v2_server import V2Server

HALF = "/v2/models/half/infer"
TWO = "/v2/models/two/infer"
UNKNOWN = "[request id: <id_unknown>] "


@pytest.fixture
def server() -> V2Server:
    return V2Server()


ANSWERS = [
    (
        HALF,
        '{"id":"42","inputs":[{"name":"x","shape":[3,1],"datatype":"FP32","data":[1.0,2.0,5.0]}]}',
        '{"id":"42","model_name":"half","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[3,1],"data":[2.5,3.0,4.5]}]}',
    ),
    (
        "/v2/models/half/versions/1/infer",
        '{"inputs":[{"name":"x","shape":[3,1],"datatype":"FP32","data":[[1.0],[2.0],[5.0]]}],"outputs":[{"name":"y"}]}',
        '{"model_name":"half","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[3,1],"data":[2.5,3.0,4.5]}]}',
    ),
    (
        TWO,
        '{"inputs":[{"name":"a","shape":[2,2],"datatype":"INT32","data":[1,2,3,4]},{"name":"b","shape":[2,2],"datatype":"INT32","data":[1,1,1,1]}]}',
        '{"model_name":"two","model_version":"1","outputs":[{"name":"s","datatype":"INT32","shape":[2,2],"data":[2,3,4,5]},{"name":"n","datatype":"BYTES","shape":[2],"data":["row0","row1"]}]}',
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[NaN]}]}',
        '{"model_name":"half","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[NaN]}]}',
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1e39]}]}',
        '{"model_name":"half","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[Infinity]}]}',
    ),
]


@pytest.mark.parametrize(("path", "request_text", "reply_text"), ANSWERS)
def test_an_answer_is_tritons_byte_for_byte(server: V2Server, path: str, request_text: str, reply_text: str) -> None:
    reply = server.ask("POST", path, request_text.encode())
    assert (reply.status, reply.body.decode()) == (200, reply_text)
    assert reply.headers == {"Content-Type": "application/json"}


REFUSALS = [
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[3,1],"datatype":"FP32","data":[1.0,2.0]}]}',
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[3,2],"datatype":"FP32","data":[1,2,3,4,5,6]}]}',
        UNKNOWN + "unexpected shape for input 'x' for model 'half'. Expected [-1,1], got [3,2].",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[9,1],"datatype":"FP32","data":[1,2,3,4,5,6,7,8,9]}]}',
        UNKNOWN + "inference request batch-size must be <= 8 for 'half'",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT32","data":[1]}]}',
        UNKNOWN + "inference input 'x' data-type is 'INT32', but model 'half' expects 'FP32'",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"BF16","data":[1]}]}',
        UNKNOWN + "inference input 'x' data-type is 'BF16', but model 'half' expects 'FP32'",
    ),
    (
        HALF,
        '{"id":"7","inputs":[{"name":"x","shape":[1,1],"datatype":"INT32","data":[1]}]}',
        "[request id: 7] inference input 'x' data-type is 'INT32', but model 'half' expects 'FP32'",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FOO","data":[1]}]}',
        "invalid datatype for input x",
    ),
    (
        HALF,
        '{"inputs":[{"name":"q","shape":[1,1],"datatype":"FP32","data":[1]}]}',
        "unexpected inference input 'q' for model 'half'",
    ),
    (
        TWO,
        '{"inputs":[{"name":"a","shape":[1,2],"datatype":"INT32","data":[1,2]}]}',
        UNKNOWN + "expected 2 inputs but got 1 inputs for model 'two'. Got input(s) ['a'], "
        "but missing required input(s) ['b']. Please provide all required input(s).",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}],"outputs":[{"name":"zz"}]}',
        "unexpected inference output 'zz' for model 'half'",
    ),
    (
        HALF,
        '{"inputs":[]}',
        UNKNOWN + "expected 1 inputs but got 0 inputs for model 'half'. Got input(s) [], "
        "but missing required input(s) ['x']. Please provide all required input(s).",
    ),
    (HALF, "{}", "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    (HALF, "[]", "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
    (HALF, "{bad", "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
    (HALF, "", UNKNOWN + "input byte size mismatch for input 'raw_input' for model 'half'. Expected 4, got 0"),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":["s"]}]}',
        "Unable to parse 'data': attempt to access JSON non-number as double",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}',
        "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"data":[1]}]}',
        "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32"}]}',
        "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
        "'shared_memory_region' in 'parameters'. But no field is set",
    ),
    (
        HALF,
        '{"inputs":[{"name":"x","shape":[1,-1],"datatype":"FP32","data":[1]}]}',
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    (
        HALF,
        '{"id":42,"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}',
        "Unable to parse 'id': attempt to access JSON non-string as string",
    ),
]


@pytest.mark.parametrize(("path", "request_text", "error"), REFUSALS)
def test_a_bad_request_is_refused_in_tritons_words(server: V2Server, path: str, request_text: str, error: str) -> None:
    reply = server.ask("POST", path, request_text.encode())
    assert (reply.status, json.loads(reply.body)) == (400, {"error": error})
    assert reply.headers == {"Content-Type": "application/json"}


SOUND = '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}'

OTHERS = [
    ("GET", "/v2/health/live", "", 200, ""),
    ("GET", "/v2/health/ready", "", 200, ""),
    ("POST", "/v2/health/ready", "", 405, '{"error":"Method Not Allowed"}'),
    ("GET", "/v2/", "", 404, '{"error":"Not Found"}'),
    ("GET", "/", "", 404, '{"error":"Not Found"}'),
    ("GET", "/v2/models", "", 200, '{"models":["half","two"]}'),
    (
        "GET",
        "/v2/models/half",
        "",
        200,
        '{"name":"half","versions":["1"],"platform":"python","inputs":[{"name":"x","datatype":"FP32","shape":[-1,1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}',
    ),
    (
        "GET",
        "/v2/models/half/versions/1",
        "",
        200,
        '{"name":"half","versions":["1"],"platform":"python","inputs":[{"name":"x","datatype":"FP32","shape":[-1,1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}',
    ),
    (
        "GET",
        "/v2/models/half/versions/9",
        "",
        404,
        """{"error":"Request for unknown model: 'half' version 9 is not found"}""",
    ),
    ("GET", "/v2/models/nope", "", 404, """{"error":"Request for unknown model: 'nope' is not found"}"""),
    ("GET", "/v2/models/half/ready", "", 200, ""),
    ("GET", "/v2/models/half/versions/9/ready", "", 400, '{"error":"Model version not ready"}'),
    ("GET", "/v2/models/nope/ready", "", 400, '{"error":"Model version not ready"}'),
    (
        "GET",
        "/v2/models/half/stats",
        "",
        200,
        '{"model_stats":[{"name":"half","version":"1","last_inference":0,"inference_count":0,"execution_count":0,"inference_stats":{"success":{"count":0,"ns":0},"fail":{"count":0,"ns":0},"queue":{"count":0,"ns":0},"compute_input":{"count":0,"ns":0},"compute_infer":{"count":0,"ns":0},"compute_output":{"count":0,"ns":0},"cache_hit":{"count":0,"ns":0},"cache_miss":{"count":0,"ns":0}},"response_stats":{},"batch_stats":[],"memory_usage":[]}]}',
    ),
    (
        "POST",
        "/v2/repository/index",
        "",
        200,
        '[{"name":"half","version":"1","state":"READY"},{"name":"two","version":"1","state":"READY"}]',
    ),
    (
        "POST",
        "/v2/repository/index",
        '{"ready":true}',
        200,
        '[{"name":"half","version":"1","state":"READY"},{"name":"two","version":"1","state":"READY"}]',
    ),
    ("GET", "/v2/repository/index", "", 405, '{"error":"Method Not Allowed"}'),
    (
        "POST",
        "/v2/repository/models/nope/load",
        "",
        500,
        """{"error":"failed to load 'nope', failed to poll from model repository"}""",
    ),
    ("POST", "/v2/repository/models/half/load", "", 200, ""),
    ("POST", "/v2/models/nope/infer", SOUND, 404, """{"error":"Request for unknown model: 'nope' is not found"}"""),
    (
        "POST",
        "/v2/models/half/versions/9/infer",
        SOUND,
        404,
        """{"error":"Request for unknown model: 'half' version 9 is not found"}""",
    ),
    ("GET", "/v2/models/half/infer", "", 405, '{"error":"Method Not Allowed"}'),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "expected"), OTHERS)
def test_every_other_route_answers_as_triton_does(
    server: V2Server, method: str, path: str, body: str, status: int, expected: str
) -> None:
    reply = server.ask(method, path, body.encode())
    assert (reply.status, reply.body.decode()) == (status, expected)


def test_an_unloaded_model_has_no_versions_and_the_server_is_not_ready(server: V2Server) -> None:
    assert server.ask("POST", "/v2/repository/models/half/unload").status == 200
    gone = (404, b"""{"error":"Request for unknown model: 'half' has no available versions"}""")
    for method, path in (("GET", "/v2/models/half"), ("POST", HALF)):
        reply = server.ask(method, path, SOUND.encode())
        assert (reply.status, reply.body) == gone
    assert server.ask("GET", "/v2/models/half/ready").status == 400
    assert server.ask("GET", "/v2/health/ready") == (400, {"Content-Type": "text/plain"}, b"")
    states = json.loads(server.ask("POST", "/v2/repository/index").body)
    assert states[0] == {"name": "half", "version": "1", "state": "UNLOADING"}
    assert len(json.loads(server.ask("POST", "/v2/repository/index", b'{"ready":true}').body)) == 1


def test_a_configuration_has_the_members_that_tritons_has(server: V2Server) -> None:
    reply = server.ask("GET", "/v2/models/half/config")
    config = json.loads(reply.body)
    assert list(config) == [
        "name", "platform", "backend", "runtime", "version_policy", "max_batch_size", "input", "output", "batch_input",
        "batch_output", "optimization", "instance_group", "default_model_filename", "cc_model_filenames", "metric_tags",
        "parameters", "model_warmup",
    ]  # fmt: skip
    assert config["max_batch_size"] == 8
    assert config["input"] == [
        {
            "name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": [1], "is_shape_tensor": False,
            "allow_ragged_batch": False, "optional": False, "is_non_linear_format_io": False,
        }
    ]  # fmt: skip


def test_the_server_names_itself_and_only_the_extensions_that_it_has(server: V2Server) -> None:
    metadata = json.loads(server.ask("GET", "/v2").body)
    assert metadata["name"] == "edge"
    assert "binary_tensor_data" in metadata["extensions"]
    assert "system_shared_memory" not in metadata["extensions"]
