"""What requests are bound to in these tests."""

from __future__ import annotations

from edge.domain.models import ImageOptions, ModelId
from edge.domain.requests import PredictResponse, Target
from edge.domain.tensors import Array, DType, Shape, Signature, TensorSpec


def signature(
    inputs: dict[str, DType], outputs: dict[str, DType] | None = None, shape: Shape | None = None
) -> Signature:
    def specs(dtypes: dict[str, DType]) -> dict[str, TensorSpec]:
        return {name: TensorSpec(name, dtype, shape) for name, dtype in dtypes.items()}

    return Signature("serving_default", specs(inputs), specs(outputs or {}))


def target(**inputs: DType) -> Target:
    return Target(ModelId("m", 1), signature(inputs), ImageOptions())


def response(**outputs: Array) -> PredictResponse:
    return PredictResponse(ModelId("m", 1), signature({}), outputs)
