"""What every front end asks of the core, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edge.domain.models import ImageOptions, ModelId, ModelSpec
from edge.domain.tensors import Signature, Tensors

if TYPE_CHECKING:
    from edge.domain.routing import RoutingStatus


@dataclass(frozen=True, slots=True)
class Target:
    """What a payload is turned into tensors for.

    With dequantization on, `signature` is the float view, and `native` the model's own, whose scale and zero
    point say what a picture's black and white are.
    """

    model: ModelId
    signature: Signature
    image: ImageOptions
    native: Signature | None = None


class Payload(Protocol):
    """A request's body, read as far as it can be without knowing the model."""

    @property
    def size(self) -> int:
        """Bytes. A large one is bound off the event loop."""
        ...

    @property
    def slow(self) -> bool:
        """Whether binding costs far more than a copy of its bytes (a picture to decode)."""
        ...

    def bind(self, target: Target) -> Tensors:
        """The target's inputs, typed and shaped. May run in any thread. Raises EdgeError."""
        ...


class Carried(Protocol):
    """What a request brings beside its body: headers, metadata or user properties, whose names are in lower case here.

    In it a model's `sticky_header` is looked up, if the model has one. A dict is one.
    """

    def get(self, name: bytes, /) -> bytes | None:
        """The first value of that name, if there is any."""
        ...


NOTHING_CARRIED: Mapping[bytes, bytes] = MappingProxyType({})


class PredictRequest(NamedTuple):
    """`deadline` is a reading of the event loop's clock, in seconds; `protocol` a metrics label.

    `caller` is a number for the connection that asked, 0 where that is not known. `carried`: where the key is that ties
    it to one side of its model's weights.
    """

    spec: ModelSpec
    payload: Payload
    signature_name: str = ""
    dequantize: bool | None = None
    deadline: float | None = None
    protocol: str = "http"
    caller: int = 0
    carried: Carried = NOTHING_CARRIED


class PredictResponse(NamedTuple):
    """`signature` is the one that the outputs follow: the float view where they were dequantized."""

    model: ModelId
    signature: Signature
    outputs: Tensors
    class_names: tuple[str, ...] = ()
    queue_s: float = 0.0
    run_s: float = 0.0

    @property
    def nbytes(self) -> int:
        """Of all outputs; a string counts as a pointer."""
        total = 0
        for array in self.outputs.values():
            total += array.nbytes
        return total


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A ready version, for metadata. `max_batch` is 1 for a model without a batch dimension of its own."""

    id: ModelId
    platform: str
    device: str
    signatures: Mapping[str, Signature]
    ready_versions: tuple[int, ...]
    max_batch: int
    class_names: tuple[str, ...] = ()
    image: ImageOptions = field(default_factory=ImageOptions)
    routing: RoutingStatus | None = None

    @property
    def default_signature(self) -> Signature:
        return default_signature(self.signatures)


def default_signature(signatures: Mapping[str, Signature]) -> Signature:
    """`serving_default` where there is one, else the first."""
    return signatures.get("serving_default") or next(iter(signatures.values()))
