"""What a worker runs: a function that prepares, by importing the runtime, and returns what loads a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edge.domain.errors import InferenceFailed
from edge.domain.tensors import Signature, Tensors


class Computing(Protocol):
    """A loaded model as a worker runs it, from several threads at once.

    `keeps_inputs`: an input may still be looked at when its run is over.
    """

    signatures: Mapping[str, Signature]
    device: str
    notice: str
    max_batch: int
    keeps_inputs: bool

    def run(self, signature: str, inputs: Tensors) -> Tensors:
        """Raises EdgeError; Broken where no further run can be trusted."""
        ...


Load = Callable[[Mapping[str, Any]], Computing]


class Broken(InferenceFailed):
    """The runtime or its device is in no state to go on; the worker ends, and another is started."""
