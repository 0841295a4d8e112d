"""One TFLite interpreter, called by name.

Rule 1: a failed run leaves the interpreter usable for the next; one that may be damaged is made anew.
Rule 2: InferenceFailed, InvalidInput and DeviceLost are all that comes out; any other exception is a bug of ours.
Rule 3: the interpreter is set up again only when a shape changed, and outputs are copies: nothing outside ever sees its memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edge.backends.tflite_signatures import Call
from edge.domain.errors import InferenceFailed, InvalidInput, LoadError
from edge.domain.ports import DeviceLost
from edge.domain.tensors import Shape, Signature, Tensors, show_shape

MAX_TENSOR_BYTES = 512 * 2**20
"""What a client's shapes may make the largest tensor of a graph take."""
MAX_HEARD = 16 * 1024
"""Characters of old errors that an interpreter may hold before it is made anew."""
_FAILED_NODE = re.compile(r"\(([^()]*)\) failed to invoke")
RUNTIME_ERRORS = (ValueError, RuntimeError, MemoryError)
"""What an interpreter raises. Its traceback keeps the interpreter alive: never raise from one, it would outlive its close."""


def _gone() -> Any:
    raise RuntimeError("the model was unloaded")


class TfliteModel:
    """A `LoadedModel`. `make` builds an interpreter; `release` gives back what `make` holds."""

    def __init__(
        self,
        *,
        make: Callable[[], Any],
        calls: Mapping[str, Call],
        largest_activation: int,
        release: Callable[[], None] = lambda: None,
        device: str = "cpu",
        notice: str = "",
        max_batch: int = 1,
        may_run_long: bool = False,
        max_tensor_bytes: int = MAX_TENSOR_BYTES,
    ) -> None:
        """Raises what `make` raises."""
        self.signatures: Mapping[str, Signature] = MappingProxyType(
            {name: call.signature for name, call in calls.items()}
        )
        self.device, self.notice, self.max_batch, self.may_run_long = device, notice, max_batch, may_run_long
        self._make, self._release, self._calls = make, release, calls
        self._largest, self._max_tensor_bytes = largest_activation, max_tensor_bytes
        # A signature of another subgraph can be run by the runtime's signature runner only, and while one of those
        # is alive the interpreter itself refuses to run: so a model uses the one way or the other.
        self._by_runner = any(call.subgraph for call in calls.values())
        self._interpreter: Any = None
        self._runners: dict[str, Any] = {}
        self._shapes: dict[int, Shape] = {}
        self._heard = ""
        self._closed = False
        self._build()

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """The inputs' dtypes and shapes are the signature's. Raises InvalidInput for shapes beyond `max_tensor_bytes`."""
        call = self._calls[signature]
        if self._closed:
            raise InferenceFailed("the model was unloaded")
        if self._interpreter is None:
            self._rebuild()
        if self._by_runner:
            return self._run_signature(call, inputs)
        if call.dynamic:
            self._fit(call, inputs)
        interpreter = self._interpreter
        try:
            for name, index in call.inputs:
                interpreter.set_tensor(index, inputs[name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(index) for name, index in call.outputs}
        except RUNTIME_ERRORS as error:
            del interpreter
            failure = self._failure(error)
        raise failure

    def another(self) -> TfliteModel:
        """An interpreter of its own on the same bytes. Raises LoadError."""
        assert self.device == "cpu", "a device has one instance"
        try:
            return TfliteModel(
                make=self._make,
                calls=self._calls,
                largest_activation=self._largest,
                notice=self.notice,
                max_batch=self.max_batch,
                may_run_long=self.may_run_long,
                max_tensor_bytes=self._max_tensor_bytes,
            )
        except RUNTIME_ERRORS as error:
            problem = " ".join(str(error).split()) or type(error).__name__
        raise LoadError(f"another instance cannot be made: {problem}")

    def close(self) -> None:
        """The interpreter goes before its delegate, as the runtime demands."""
        if not self._closed:
            self._closed = True
            self._drop()
            self._release()
            # It holds the file's bytes; whoever still holds this model (a cycle, until it is collected) holds no more.
            self._make = _gone

    def _fit(self, call: Call, inputs: Tensors) -> None:
        shapes = self._shapes
        changed = [(index, inputs[name].shape) for name, index in call.inputs if shapes[index] != inputs[name].shape]
        if changed:
            self._bound(call, inputs)
            self._resize(call, inputs, changed)

    def _bound(self, call: Call, inputs: Tensors) -> None:
        """A tensor inside the graph grows with the inputs; that it grows as they do is the estimate."""
        for name, _ in call.inputs:
            array, spec = inputs[name], call.signature.inputs[name]
            growth = array.size / max(1, math.prod(abs(size) for size in spec.shape or ()))
            needed = max(array.nbytes, int(growth * max(1, self._largest)))
            if needed > self._max_tensor_bytes:
                raise InvalidInput(
                    f"{name}: want at most {self._max_tensor_bytes} bytes in any tensor of the graph, "
                    f"got {show_shape(array.shape)}, which needs about {needed}"
                )

    def _resize(self, call: Call, inputs: Tensors, changed: list[tuple[int, Shape]]) -> None:
        before = {index: self._shapes[index] for index, _ in changed}
        try:
            self._set_shapes(dict(changed))
            return
        except RUNTIME_ERRORS as error:
            said = self._news(error)
        self._go_back(before)
        shapes = ", ".join(f"{name} {show_shape(inputs[name].shape)}" for name, _ in call.inputs)
        raise InferenceFailed(f"the model cannot take {shapes}: {said}")

    def _set_shapes(self, shapes: Mapping[int, Shape]) -> None:
        for index, shape in shapes.items():
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes.update(shapes)

    def _go_back(self, shapes: Mapping[int, Shape]) -> None:
        try:
            self._set_shapes(shapes)
        except RUNTIME_ERRORS:
            self._drop()

    def _run_signature(self, call: Call, inputs: Tensors) -> Tensors:
        """The runtime sets the shapes anew in every run."""
        if call.dynamic:
            self._bound(call, inputs)
        try:
            answer: Tensors = self._runners[call.signature.name](**inputs)
            return {name: answer[name] for name, _ in call.outputs}
        except RUNTIME_ERRORS as error:
            failure = self._failure(error)
        self._drop()
        raise failure

    def _failure(self, error: Exception) -> Exception:
        """On an accelerator, a part of the graph that fails there is the device's loss; any other is the input's fault."""
        if isinstance(error, MemoryError):
            self._drop()
            return InferenceFailed("the model ran out of memory")
        said = self._news(error)
        if self.device != "cpu":
            nodes = _FAILED_NODE.findall(said)
            if not nodes or any("edgetpu" in node.lower() for node in nodes):
                return DeviceLost(f"{self.device}: {said}")
        return InferenceFailed(said)

    def _news(self, error: Exception) -> str:
        """What this error says, on one line: a runtime repeats all that it ever said before the new."""
        text, old = str(error), 0
        if isinstance(error, RuntimeError) and text.startswith(self._heard):
            self._heard, old = text, len(self._heard)
        if len(text) > MAX_HEARD:
            self._drop()
        return " ".join(text[old:].split()) or type(error).__name__

    def _build(self) -> None:
        interpreter = self._make()
        if self._by_runner:
            self._runners = {name: interpreter.get_signature_runner(name) for name in self._calls}
        else:
            interpreter.allocate_tensors()
        self._shapes = {
            int(detail["index"]): tuple(int(size) for size in detail["shape"])
            for detail in interpreter.get_input_details()
        }
        self._interpreter, self._heard = interpreter, ""

    def _rebuild(self) -> None:
        try:
            self._build()
            return
        except RUNTIME_ERRORS as error:
            said = self._news(error)
        raise InferenceFailed(f"the model could not be set up again: {said}")

    def _drop(self) -> None:
        self._runners, self._interpreter = {}, None
