"""Quantized and float TFLite models, on the CPU or an Edge TPU.

Rule 1: LoadError is all that comes out of loading, in words for a person. Rule 2: what a file is, is known before a
runtime sees it. Rule 3: an Edge TPU model whose device is missing is served by its CPU twin, and says so; asking for
`cpu` is how the core goes to the twin when a device is lost. Rule 4: a file is read once for all instances of a
version, and never mapped: what is written to it later changes nothing, and what was looked at is what runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.backends import edgetpu
from edge.backends.flatbuffer import EDGETPU_OP, ModelFile, parse, read_content, read_model
from edge.backends.runtime import Runtime, runtime
from edge.backends.tflite_model import MAX_TENSOR_BYTES, RUNTIME_ERRORS, TfliteModel
from edge.backends.tflite_signatures import Call, calls, largest_activation, max_batch
from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelOptions, is_gpu
from edge.domain.ports import LoadedModel
from edge.domain.tensors import Signature

MODEL = "model.tflite"
TWIN = "model_cpu.tflite"
_CUSTOM = re.compile(r"unresolved custom op: (\S+?)\.?(?:\s|$)")
_FLEX = re.compile(r"\((Flex\w+)\) failed to prepare")
_BUILTIN = re.compile(r"find op for builtin opcode '([^']*)' version '(\d+)'")


@dataclass(frozen=True, slots=True)
class TfliteBackend:
    """A `Backend`. `max_tensor_bytes` bounds what the shapes of a request may make any one tensor take."""

    max_tensor_bytes: int = MAX_TENSOR_BYTES

    def memory_bytes(self, artifact: Artifact) -> int:
        """The weights twice (the file's bytes, and XNNPACK's packed copy), three of the largest activation for the
        arena, and half a megabyte for the graph: within a third of what was measured for MobileNets. Raises LoadError."""
        model = read_model(model_file(artifact))
        return 2 * model.size + 3 * largest_activation(model) + 512 * 1024

    def load(self, artifact: Artifact, options: ModelOptions) -> TfliteModel:
        """Raises LoadError: no such file, not a model, an operator that the runtime lacks, no device and no twin."""
        path = model_file(artifact)
        wants_gpu = is_gpu(options.device)
        wants_tpu = not wants_gpu and edgetpu.is_edgetpu(options.device)
        content = read_content(path)
        model = parse(content, path.name)
        if not model.for_edgetpu:
            why = "TFLite models run on no GPU here" if wants_gpu else f"{path.name} was not compiled for the Edge TPU"
            notice = f"{options.device}: {why}; serving it on the CPU" if wants_gpu or wants_tpu else ""
            return self._open(path.name, content, model, options, notice=notice)
        if not wants_tpu:
            why = f"{path.name} has {EDGETPU_OP}, compiled for the Edge TPU, and the device is {options.device}"
            return self._open_twin(artifact, model, options, why)
        try:
            delegate = edgetpu.Delegate(options.device)
        except LoadError as error:
            return self._open_twin(artifact, model, options, str(error))
        try:
            return self._open(path.name, content, model, options, delegate=delegate)
        except LoadError as error:
            delegate.close()
            return self._open_twin(artifact, model, options, f"{options.device}: {error}")

    def apart(self, artifact: Artifact, options: ModelOptions) -> LoadedModel:
        """On the CPU, with the twin of a model that was compiled for an Edge TPU. Raises LoadError."""
        from edge.backends.tflite_apart import open_apart  # for those who want one

        return open_apart(artifact, options, self.memory_bytes(artifact))

    def inspect(self, artifact: Artifact) -> Mapping[str, Signature]:
        """The signatures, from the file alone: what can be checked where no device may be opened. Raises LoadError."""
        found = calls(read_model(model_file(artifact)))
        return {name: call.signature for name, call in found.items()}

    def is_for_edgetpu(self, artifact: Artifact) -> bool:
        """Whether a part of it was compiled for the Edge TPU. Raises LoadError."""
        return read_model(model_file(artifact)).for_edgetpu

    def _open_twin(self, artifact: Artifact, model: ModelFile, options: ModelOptions, why: str) -> TfliteModel:
        twin = twin_file(artifact, options)
        if not twin.is_file():
            raise LoadError(f"{why}; and there is no {twin.name} to serve on the CPU instead")
        content = read_content(twin)
        stand_in = parse(content, twin.name)
        if stand_in.for_edgetpu:
            raise LoadError(f"{why}; and {twin.name} is compiled for the Edge TPU as well")
        if _interface(calls(stand_in)) != _interface(calls(model)):
            raise LoadError(
                f"{why}; and the inputs and outputs of {twin.name} are not those of {model_file(artifact).name}"
            )
        return self._open(twin.name, content, stand_in, options, notice=f"{why}; serving {twin.name} on the CPU")

    def _open(
        self,
        name: str,
        content: bytes,
        model: ModelFile,
        options: ModelOptions,
        *,
        delegate: edgetpu.Delegate | None = None,
        notice: str = "",
    ) -> TfliteModel:
        found, chosen, largest = calls(model), runtime(), largest_activation(model)
        bound = max_batch(found.values(), largest)
        delegates = [delegate] if delegate else None
        try:
            return TfliteModel(
                make=lambda: chosen.Interpreter(
                    model_content=content, num_threads=max(1, options.num_threads), experimental_delegates=delegates
                ),
                release=delegate.close if delegate else lambda: None,
                calls=found,
                largest_activation=largest,
                device=options.device if delegate else "cpu",
                notice=notice,
                max_batch=min(bound, options.max_batch) if options.max_batch else bound,
                may_run_long=model.has_loops,
                max_tensor_bytes=self.max_tensor_bytes,
            )
        except RUNTIME_ERRORS as error:
            problem = f"{name}: {_explain(error, chosen)}"
        # Raised out here, without its cause: that one's traceback would keep the interpreter beyond its delegate.
        raise LoadError(problem)


def model_file(artifact: Artifact) -> Path:
    """The model itself: the artifact, or `model.tflite` in its directory."""
    return artifact.path / MODEL if artifact.path.is_dir() else artifact.path


def twin_file(artifact: Artifact, options: ModelOptions) -> Path:
    """The CPU build beside it; `cpu_twin` is relative to the version's directory."""
    return artifact.file(str(options.cpu_twin or TWIN))


def _interface(found: Mapping[str, Call]) -> object:
    return [(name, dict(call.signature.inputs), dict(call.signature.outputs)) for name, call in sorted(found.items())]


def _explain(error: Exception, chosen: Runtime) -> str:
    """A runtime's complaint, in the words of somebody who has to do something about it."""
    text = " ".join(str(error).split())
    if match := _FLEX.search(text):
        return f"operator {match[1]} is TensorFlow's own, which {chosen} has not; convert it without SELECT_TF_OPS"
    if match := _CUSTOM.search(text):
        return f"operator {match[1]} is not one that {chosen} has"
    if match := _BUILTIN.search(text):
        return f"operator {match[1]} version {match[2]} is not one that {chosen} has; it may need a newer runtime"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{chosen} cannot load it: {text or type(error).__name__}"
