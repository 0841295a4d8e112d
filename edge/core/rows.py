"""One request's worth of work for an instance: a run, or a run for each row where the model takes one at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge.core.check import Rows
from edge.domain.ports import LoadedModel
from edge.domain.tensors import Tensors


class Work(NamedTuple):
    """`elements` counts the inputs' elements: what the run time is predicted from."""

    signature: str
    inputs: Tensors
    rows: Rows
    elements: int


def work_of(signature: str, inputs: Tensors, rows: Rows) -> Work:
    elements = 0
    for array in inputs.values():
        elements += array.size
    return Work(signature, inputs, rows, elements)


def run(model: LoadedModel, work: Work) -> Tensors:
    """Outputs by name; split rows are joined again along the leading dimension. Raises as LoadedModel.run."""
    if not work.rows.split:
        return model.run(work.signature, work.inputs)
    parts = [
        model.run(work.signature, {name: array[row : row + 1] for name, array in work.inputs.items()})
        for row in range(work.rows.count)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
