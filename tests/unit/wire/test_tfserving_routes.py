import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.domain.models import ModelSpec
from edge.wire.tfserving_routes import Malformed, Route, route

ROUTED = [
    ("POST", "/v1/models/m:predict", "predict", ModelSpec("m")),
    ("POST", "/v1/models/m:classify", "classify", ModelSpec("m")),
    ("POST", "/v1/models/m:regress", "regress", ModelSpec("m")),
    ("POST", "/v1/models/m/versions/12:predict", "predict", ModelSpec("m", 12)),
    ("POST", "/v1/models/m/versions/0012:predict", "predict", ModelSpec("m", 12)),
    ("POST", f"/v1/models/m/versions/{2**63 - 1}:predict", "predict", ModelSpec("m", 2**63 - 1)),
    ("POST", "/v1/models/m/labels/stable:predict", "predict", ModelSpec("m", label="stable")),
    ("POST", "/V1/Models/M:predict", "predict", ModelSpec("M")),
    ("POST", "/v1/models/m:predict?x=1", "predict", ModelSpec("m")),
    ("POST", "/v1/models/a%2Fb%20c:predict", "predict", ModelSpec("a/b c")),
    ("POST", "/v1/models/a+b:predict", "predict", ModelSpec("a+b")),
    ("POST", "/v1/models/%2e%2e%00:predict", "predict", ModelSpec("..\x00")),
    ("POST", "/v1/models/%ff:predict", "predict", ModelSpec("\ufffd")),
    ("POST", "/v1/models/caf\udcc3\udca9:predict", "predict", ModelSpec("café")),
    ("POST", "/v1/models/m/labels/%C3%A9:predict", "predict", ModelSpec("m", label="é")),
    ("GET", "/v1/models/m", "status", ModelSpec("m")),
    ("GET", "/v1/models/m?x=1", "status", ModelSpec("m")),
    ("GET", "/v1/models/m/versions/3", "status", ModelSpec("m", 3)),
    ("GET", "/v1/models/m/labels/l?x=1", "status", ModelSpec("m", label="l")),
    ("GET", "/v1/models/m/metadata", "metadata", ModelSpec("m")),
    ("GET", "/v1/models/m/versions/3/metadata", "metadata", ModelSpec("m", 3)),
    ("GET", "/v1/models/m/labels/l/metadata", "metadata", ModelSpec("m", label="l")),
    ("GET", "/v1/models/m/Metadata", "status", ModelSpec("m")),
    ("GET", "/v1/models/metadata", "status", ModelSpec("metadata")),
    ("GET", "/v1/models/m#f", "status", ModelSpec("m")),
]

MALFORMED = [
    ("POST", "/v1/models/m:PREDICT"),
    ("POST", "/v1/models/m"),
    ("POST", "/v1/models/m:explain"),
    ("POST", "/v1/models/:predict"),
    ("POST", "/v1/models/a/b:predict"),
    ("POST", "/v1/models/m/versions/x:predict"),
    ("POST", "/v1/models/m/versions/-1:predict"),
    ("POST", "/v1/models/m/versions/\u0663:predict"),
    ("POST", "/v1/models/m/versions/1/labels/l:predict"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/models/m/"),
    ("GET", "/v1/models/m:predict"),
    ("GET", "/v1/models//metadata"),
    ("GET", "/v1/models/m/versions/abc"),
    ("GET", "/v1/anything?q=1"),
    ("HEAD", "/v1/models/m"),
    ("PUT", "/v1/models/m:predict"),
    ("DELETE", "/v1/models/m"),
    ("PATCH", "/v1/models/m?x=1"),
]


@pytest.mark.parametrize(("method", "path", "verb", "spec"), ROUTED)
def test_a_request_reaches_what_it_names(method: str, path: str, verb: str, spec: ModelSpec) -> None:
    found = route(method, path)
    assert (found.verb, found.spec) == (verb, spec)


@pytest.mark.parametrize(("method", "path"), MALFORMED)
def test_any_other_path_is_malformed_and_told_in_full(method: str, path: str) -> None:
    with pytest.raises(Malformed) as caught:
        route(method, path)
    assert caught.value.message == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models?x=1", "/v1/models/versions/3", "/v1/models/labels/s"])
def test_a_status_request_without_a_model_is_told_so(path: str) -> None:
    with pytest.raises(Malformed) as caught:
        route("GET", path)
    assert caught.value.message == "Missing model name in request."


@pytest.mark.parametrize("path", [f"/versions/{2**63}", f"/versions/{'9' * 5000}", "%zz", "%2"])
def test_a_version_beyond_64_bits_and_an_undecodable_name_have_an_empty_answer(path: str) -> None:
    with pytest.raises(Malformed) as caught:
        route("POST", f"/v1/models/m{path}:predict")
    assert caught.value.message == ""


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    path=st.text(alphabet="/v1modelsabr%2F:?#0predictversions\udcff", max_size=40),
)
def test_any_path_is_a_route_or_malformed(method: str, path: str) -> None:
    for text in (path, "/v1/models/" + path, "/v1/models/m" + path + ":predict"):
        with contextlib.suppress(Malformed):
            assert isinstance(route(method, text), Route)
