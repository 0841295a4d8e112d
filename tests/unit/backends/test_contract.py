"""What every backend promises, asked of the real one and of the one that stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from edge.backends.tflite import TfliteBackend
from edge.domain.errors import InferenceFailed, LoadError
from edge.domain.models import Artifact, ModelOptions
from edge.domain.ports import Backend, LoadedModel
from tests.fakes.tflite import FakeBackend
from tests.tflite_models import picking, scaling
from tests.unit.backends.conftest import Put


@dataclass(frozen=True)
class Kind:
    """good: a version that loads, `x` float32 [?] → `y`. bad: one that does not. failing: one whose runs fail, with `at`."""

    good: Callable[[Put], tuple[Backend, Artifact]]
    bad: Callable[[Put], tuple[Backend, Artifact]]
    failing: Callable[[Put], tuple[Backend, Artifact]]


KINDS = {
    "tflite": Kind(
        lambda put: (TfliteBackend(), put(scaling(1.0))),
        lambda put: (TfliteBackend(), put(b"junk")),
        lambda put: (TfliteBackend(), put(picking())),
    ),
    "fake": Kind(
        lambda put: (FakeBackend(), put(b"")),
        lambda put: (FakeBackend(failing={1}), put(b"")),
        lambda put: (FakeBackend(errors={1: InferenceFailed("no")}), put(b"")),
    ),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def load(backend: Backend, artifact: Artifact) -> LoadedModel:
    return backend.load(artifact, ModelOptions())


def test_a_loaded_model_says_how_it_is_called_and_where_it_runs(kind: Kind, put: Put) -> None:
    model = load(*kind.good(put))
    signature = model.signatures["serving_default"]
    assert (signature.name, list(signature.inputs), list(signature.outputs)) == ("serving_default", ["x"], ["y"])
    assert (model.device, model.notice, model.may_run_long) == ("cpu", "", False)
    assert model.max_batch > 1


def test_every_output_of_the_signature_is_given_and_owned_by_the_caller(kind: Kind, put: Put) -> None:
    model = load(*kind.good(put))
    x = np.array([1, 2, 3], np.float32)
    first = model.run("serving_default", {"x": x})
    model.run("serving_default", {"x": x * 7})
    assert {name: array.tolist() for name, array in first.items()} == {"y": [1, 2, 3]}
    assert first["y"].base is None
    model.close()


def test_a_version_that_cannot_be_loaded_is_a_load_error(kind: Kind, put: Put) -> None:
    with pytest.raises(LoadError):
        load(*kind.bad(put))


def test_a_run_that_fails_is_an_inference_error_and_the_model_lives_on(kind: Kind, put: Put) -> None:
    model = load(*kind.failing(put))
    inputs = {
        name: np.full(1, 99, spec.dtype.numpy) for name, spec in model.signatures["serving_default"].inputs.items()
    }
    for _ in range(2):
        with pytest.raises(InferenceFailed):
            model.run("serving_default", inputs)
    model.close()


def test_a_model_may_be_closed_twice_and_runs_no_more(kind: Kind, put: Put) -> None:
    model = load(*kind.good(put))
    model.close()
    model.close()
    with pytest.raises((InferenceFailed, AssertionError), match=r"unloaded|after close"):
        model.run("serving_default", {})


def test_a_version_has_a_cost(kind: Kind, put: Put) -> None:
    backend, artifact = kind.good(put)
    assert backend.memory_bytes(artifact) > 0


def test_instances_of_one_version_are_independent(kind: Kind, put: Put) -> None:
    backend, artifact = kind.good(put)
    first, second = load(backend, artifact), load(backend, artifact)
    first.close()
    assert second.run("serving_default", {"x": np.ones(2, np.float32)})["y"].tolist() == [1, 1]
    second.close()


def test_an_instance_apart_is_the_same_model(kind: Kind, put: Put) -> None:
    backend, artifact = kind.good(put)
    model = backend.apart(artifact, ModelOptions())
    try:
        ours = load(backend, artifact)
        assert model.signatures == ours.signatures
        assert model.max_batch == ours.max_batch
        inputs = {"x": np.array([1.0, 2.0], np.float32)}
        for name, array in model.run("serving_default", inputs).items():
            np.testing.assert_array_equal(array, ours.run("serving_default", inputs)[name])
    finally:
        model.close()


def test_a_version_that_does_not_load_does_not_load_apart(kind: Kind, put: Put) -> None:
    backend, artifact = kind.bad(put)
    with pytest.raises(LoadError):
        backend.apart(artifact, ModelOptions())


def test_a_run_that_fails_apart_fails_as_it_does_here(kind: Kind, put: Put) -> None:
    backend, artifact = kind.failing(put)
    model = backend.apart(artifact, ModelOptions())
    try:
        name, signature = next(iter(model.signatures.items()))
        inputs = {each: np.full(1, 99, spec.dtype.numpy) for each, spec in signature.inputs.items()}
        with pytest.raises(InferenceFailed):
            model.run(name, inputs)
    finally:
        model.close()
