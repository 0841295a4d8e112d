"""TensorFlow Serving's PredictionService: messages → what is asked, and answers → messages.

Rule 1: what is wrong with tensors is told once the signature is known, in TensorFlow Serving's order: signature, names, tensors,
output filter. Rule 2: examples stay the bytes that they are; a model parses them.
Source: TensorFlow Serving's `apis/*.proto`, `servables/tensorflow/{predict_util,classifier,regressor,multi_inference}.cc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edge.domain.errors import InvalidInput, Unsupported
from edge.domain.models import ModelSpec
from edge.domain.requests import Payload, PredictResponse, Target
from edge.domain.tensors import Array, Signature, Tensors
from edge.wire import tensor_proto
from edge.wire.proto.messages import message, parse, to_bytes
from edge.wire.tfserving_examples import METHOD_NAMES, ExamplesPayload, Method
from edge.wire.tfserving_reply import class_arrays, regressed

PACKAGE = "tensorflow.serving"
SLOW_BYTES = 1 << 16
"""Values one by one, rather than as `tensor_content`, are read off the event loop above this size."""
MAX_TASKS = 64


class ParsedPredict(NamedTuple):
    spec: ModelSpec
    signature_name: str
    payload: PredictPayload


class ParsedExamples(NamedTuple):
    spec: ModelSpec
    signature_name: str
    payload: Payload


class Task(NamedTuple):
    """One of the signatures that a MultiInferenceRequest asks for, all of one model."""

    method: Method
    asked: ParsedExamples


def spec_of(request: Any) -> ModelSpec:
    """Of a message with a `model_spec`. Raises InvalidInput."""
    if not request.HasField("model_spec"):
        raise InvalidInput("Missing ModelSpec")
    given = request.model_spec
    match given.WhichOneof("version_choice"):
        case "version":
            return ModelSpec(given.name, given.version.value)
        case "version_label":
            return ModelSpec(given.name, None, given.version_label)
    return ModelSpec(given.name)


def parse_predict(body: bytes, max_bytes: int) -> ParsedPredict:
    """max_bytes: that the arrays may come to. Raises InvalidInput."""
    request = parse(f"{PACKAGE}.PredictRequest", body)
    payload = PredictPayload(len(body), dict(request.inputs), tuple(request.output_filter), max_bytes)
    return ParsedPredict(spec_of(request), request.model_spec.signature_name, payload)


class PredictPayload:
    """`size`: bytes of the request, or of what it stands for, if that is more."""

    def __init__(self, body_size: int, given: Mapping[str, bytes], outputs: tuple[str, ...], max_bytes: int) -> None:
        self.outputs = outputs
        self._given = given
        self._seen: dict[str, tensor_proto.Seen] = {}
        self._problem: InvalidInput | None = None
        left = max_bytes
        try:
            for name, content in given.items():
                self._seen[name] = seen = tensor_proto.look(content, name, left)
                left -= seen.nbytes
        except InvalidInput as error:  # for whoever knows the signature
            self._problem = error
        self.size = max(body_size, max_bytes - left)
        self.slow = self.size > SLOW_BYTES and not all(seen.given.tensor_content for seen in self._seen.values())

    def bind(self, target: Target) -> Tensors:
        """Raises InvalidInput."""
        wanted = target.signature.inputs
        if len(self._given) != len(wanted):
            raise InvalidInput(_other_inputs(self._given, wanted))
        for name in self._given:
            if name not in wanted:
                raise InvalidInput(
                    f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {_set(wanted)}."
                )
        if self._problem is not None:
            raise self._problem
        check_filter(self.outputs, target.signature)
        return {name: tensor_proto.read(seen) for name, seen in self._seen.items()}


def check_filter(outputs: Sequence[str], signature: Signature) -> None:
    """Raises InvalidInput."""
    for index, name in enumerate(outputs):
        if name not in signature.outputs:
            raise InvalidInput(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if name in outputs[:index]:
            raise InvalidInput(f"duplicate output tensor alias: {name}")


def encode_predict(response: PredictResponse, outputs: Sequence[str]) -> bytes:
    """A PredictResponse with the outputs that were asked for, or all."""
    reply = message(f"{PACKAGE}.PredictResponse")()
    fill_spec(reply.model_spec, response)
    for name in outputs or response.outputs:
        reply.outputs[name] = tensor_proto.write(response.outputs[name])
    return to_bytes(reply)


def parse_examples(body: bytes, method: Method) -> ParsedExamples:
    """A ClassificationRequest or a RegressionRequest. Raises InvalidInput."""
    request = parse(f"{PACKAGE}.{_REQUESTS[method]}", body)
    spec = spec_of(request)
    payload = ExamplesPayload(len(body), method, _examples(request))
    return ParsedExamples(spec, request.model_spec.signature_name, payload)


def encode_classification(response: PredictResponse) -> bytes:
    """Raises InvalidInput if the outputs are of no such form."""
    reply = message(f"{PACKAGE}.ClassificationResponse")()
    fill_spec(reply.model_spec, response)
    _classify(reply.result, response)
    return to_bytes(reply)


def encode_regression(response: PredictResponse) -> bytes:
    """Raises InvalidInput if the output is of no such form."""
    reply = message(f"{PACKAGE}.RegressionResponse")()
    fill_spec(reply.model_spec, response)
    _regress(reply.result, response)
    return to_bytes(reply)


def parse_multi_inference(body: bytes) -> list[Task]:
    """Raises InvalidInput, Unsupported."""
    request = parse(f"{PACKAGE}.MultiInferenceRequest", body)
    if not 0 < len(request.tasks) <= MAX_TASKS:
        raise InvalidInput(f"want 1 to {MAX_TASKS} tasks in a MultiInferenceRequest, got {len(request.tasks)}")
    specs = [spec_of(task) for task in request.tasks]
    if any(spec != specs[0] for spec in specs):
        raise InvalidInput("All ModelSpecs in a MultiInferenceRequest must access the same model name and version.")
    examples = _examples(request)
    tasks: list[Task] = []
    names: set[str] = set()
    for task in request.tasks:
        name = task.model_spec.signature_name
        if name in names:
            raise InvalidInput(f"Duplicate evaluation of signature: {name}")
        names.add(name)
        method = _METHODS.get(task.method_name)
        if method is None:
            raise Unsupported(f"Unsupported signature method_name: {task.method_name}")
        tasks.append(Task(method, ParsedExamples(specs[0], name, ExamplesPayload(len(body), method, examples))))
    return tasks


def encode_multi_inference(answers: Sequence[tuple[Method, PredictResponse]]) -> bytes:
    """Raises InvalidInput if outputs are not of the form of their method."""
    reply = message(f"{PACKAGE}.MultiInferenceResponse")()
    for method, response in answers:
        result = reply.results.add()
        fill_spec(result.model_spec, response)
        if method == "classify":
            _classify(result.classification_result, response)
        else:
            _regress(result.regression_result, response)
    return to_bytes(reply)


def fill_spec(spec: Any, response: PredictResponse) -> None:
    spec.name, spec.signature_name = response.model.name, response.signature.name
    spec.version.value = response.model.version


def _examples(request: Any) -> list[bytes]:
    """Serialized, each with the context before it: messages that follow one another are merged. Raises InvalidInput."""
    match request.input.WhichOneof("kind"):
        case "example_list":
            examples = list(request.input.example_list.examples)
        case "example_list_with_context":
            given = request.input.example_list_with_context
            examples = [given.context + example for example in given.examples]
        case _:
            examples = []
    if not examples:
        raise InvalidInput("Input is empty.")
    return examples


def _classify(result: Any, response: PredictResponse) -> None:
    classes, scores, (rows, columns) = class_arrays(response)
    for row in range(rows):
        listed = result.classifications.add().classes
        for column in range(columns):
            each = listed.add()
            if classes is not None:
                each.label = _text(classes, row, column)
            if scores is not None:
                each.score = float(scores[row, column])


def _text(classes: Array, row: int, column: int) -> str:
    value = classes[row, column]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _regress(result: Any, response: PredictResponse) -> None:
    for value in regressed(response).tolist():
        result.regressions.add().value = value


def _other_inputs(given: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    return (
        f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != len({_set(wanted)}). "
        f"Sent extra: {_set(given.keys() - wanted.keys())}. Missing but required: {_set(wanted.keys() - given.keys())}."
    )


def _set(names: Mapping[str, object] | set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


_REQUESTS: dict[Method, str] = {"classify": "ClassificationRequest", "regress": "RegressionRequest"}
_METHODS: dict[str, Method] = {METHOD_NAMES["classify"]: "classify", METHOD_NAMES["regress"]: "regress"}
