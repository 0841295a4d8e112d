"""Everything that may be told to a client.

EdgeError
├── InvalidInput                 the request is wrong; sending it again will not help
│   ├── TensorMismatch           a tensor of another type or shape than the signature's
│   ├── UnexpectedTensor         a tensor that the signature does not have
│   ├── MissingTensors           tensors that the signature has and the request lacks
│   ├── BatchTooLarge            more rows than one run may take
│   ├── UnknownSignature         no signature of that name
│   ├── UnknownLabel             no version carries that label
│   └── TooEarly                 right by itself, and refused as things stand
├── TooLarge                     a bound on size was passed
├── Unsupported                  well-formed, but not something that this server does
├── UnsupportedMedia             a body of a kind that nothing here reads
├── NotFound                     no such model, or no such version of it
├── NotReady                     it is there, and cannot answer yet or any more
├── Overloaded                   full; `retry_after_s` says when to come back
├── DeadlineExceeded
├── Unauthenticated
├── Forbidden
├── InferenceFailed              the model itself failed on this input
│   ├── BadOutputs               what it made cannot be an answer: too large, or not of its signature's shape
│   ├── GraphFailed              a SavedModel's run
│   └── WorkerLost               the process that ran it ended in the midst of it; another is started
└── ControlFailed                a load or unload that was asked for did not happen
    └── ModelsNotAvailable       models that were to be served are not
LoadError                        fails a version, never a request: no EdgeError

Rule 1: no protocol's number is in here; `edge.wire.status` has the one table.
Rule 2: a message says what was wanted and what came.
Rule 3: an error carries the facts, so that a protocol with a text of its own can word them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import ClassVar

from edge.domain.models import ModelSpec
from edge.domain.tensors import Shape, TensorSpec, show_shape


class Code(Enum):
    """What went wrong, in the words that metrics and logs use."""

    INVALID_INPUT = "invalid_input"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNSUPPORTED_MEDIA = "unsupported_media"
    NOT_FOUND = "not_found"
    NOT_READY = "not_ready"
    OVERLOADED = "overloaded"
    DEADLINE = "deadline"
    TOO_SLOW = "too_slow"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INFERENCE_FAILED = "inference_failed"
    CONTROL_FAILED = "control_failed"


class EdgeError(Exception):
    """An answer to a client that is not the one it hoped for. A bug is never one of these."""

    code: ClassVar[Code]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(EdgeError):
    code = Code.INVALID_INPUT


class TensorMismatch(InvalidInput):
    """`want` is the signature's; `got_dtype` is the protocol-free name of what came."""

    def __init__(self, want: TensorSpec, got_dtype: str, got_shape: Shape) -> None:
        super().__init__(f"{want.name}: want {want}, got {got_dtype} {show_shape(got_shape)}")
        self.want, self.got_dtype, self.got_shape = want, got_dtype, got_shape


class UnexpectedTensor(InvalidInput):
    def __init__(self, name: str, wanted: Sequence[str]) -> None:
        super().__init__(f"{name}: no such tensor; want {', '.join(wanted)}")
        self.name, self.wanted = name, tuple(wanted)


class MissingTensors(InvalidInput):
    def __init__(self, wanted: Sequence[str], got: Sequence[str]) -> None:
        self.wanted, self.got = tuple(wanted), tuple(got)
        self.missing = tuple(name for name in wanted if name not in self.got)
        super().__init__(f"want tensors {', '.join(wanted)}; missing {', '.join(self.missing)}")


class BatchTooLarge(InvalidInput):
    """`max_batch`: rows that one run of the model may take."""

    def __init__(self, rows: int, max_batch: int) -> None:
        super().__init__(f"want a batch of at most {max_batch} rows, got {rows}")
        self.rows, self.max_batch = rows, max_batch


class UnknownSignature(InvalidInput):
    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"signature {name!r}: no such signature; the model has {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class UnknownLabel(InvalidInput):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(f"label {spec.label!r}: no version of {spec.name!r} carries it")
        self.spec = spec


class TooEarly(InvalidInput):
    """It may be asked again when what it names has come to be."""


class TooLarge(EdgeError):
    code = Code.TOO_LARGE


class Unsupported(EdgeError):
    code = Code.UNSUPPORTED


class UnsupportedMedia(EdgeError):
    code = Code.UNSUPPORTED_MEDIA


class NotFound(EdgeError):
    """`model_known` tells a model with nothing loaded from one that nobody ever heard of."""

    code = Code.NOT_FOUND

    def __init__(self, spec: ModelSpec, *, model_known: bool) -> None:
        what = spec.name if spec.version is None else f"{spec.name} version {spec.version}"
        super().__init__(f"{what}: " + ("not loaded" if model_known else "no such model"))
        self.spec, self.model_known = spec, model_known


class NotReady(EdgeError):
    code = Code.NOT_READY


class Overloaded(EdgeError):
    code = Code.OVERLOADED

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(EdgeError):
    code = Code.DEADLINE


class Unauthenticated(EdgeError):
    code = Code.UNAUTHENTICATED


class Forbidden(EdgeError):
    code = Code.FORBIDDEN


class InferenceFailed(EdgeError):
    """`shown`: whether its message is for clients of TensorFlow Serving's API, too. What a TFLite runtime says is for the log; it may
    hold addresses."""

    code = Code.INFERENCE_FAILED
    shown: ClassVar[bool] = False


class BadOutputs(InferenceFailed):
    """Its message has nothing of the runtime's."""

    shown = True


class GraphFailed(InferenceFailed):
    """In TensorFlow's words, which TensorFlow Serving tells."""

    shown = True


class WorkerLost(InferenceFailed):
    """Its message is what `NotReady` tells, too, until another process answers."""

    shown = True


class ControlFailed(EdgeError):
    code = Code.CONTROL_FAILED


class ModelsNotAvailable(ControlFailed):
    """`models`: by name, the version that failed; None where there was none to try."""

    def __init__(self, models: Mapping[str, int | None]) -> None:
        self.models = dict(models)
        said = (
            f"{name}: " + ("no version" if failed is None else f"version {failed} failed")
            for name, failed in self.models.items()
        )
        super().__init__(f"want these models to be served, and they are not: {'; '.join(said)}")


class LoadError(Exception):
    """A version cannot be loaded: the reason is for its status, in words for a person."""
