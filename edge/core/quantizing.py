"""Between the tensors that a client sees and those that a model computes with."""

from __future__ import annotations

from edge.core.check import check
from edge.core.rows import Work, work_of
from edge.core.slot import Call
from edge.domain.tensors import Tensors


def work_for(call: Call, inputs: Tensors, *, max_batch: int) -> Work:
    """Raises MissingTensors, UnexpectedTensor, TensorMismatch, BatchTooLarge, InvalidInput."""
    rows = check(call.target.signature, inputs, max_batch=max_batch)
    return work_of(call.signature.name, _quantize(call, inputs) if call.dequantize else inputs, rows)


def shown(call: Call, outputs: Tensors) -> Tensors:
    """A model's outputs as the client sees them."""
    if not call.dequantize:
        return outputs
    return {
        name: spec.quantization.dequantize(outputs[name]) if spec.quantization else outputs[name]
        for name, spec in call.signature.outputs.items()
    }


def _quantize(call: Call, inputs: Tensors) -> Tensors:
    return {
        name: spec.quantization.quantize(inputs[name], spec.dtype) if spec.quantization else inputs[name]
        for name, spec in call.signature.inputs.items()
    }
