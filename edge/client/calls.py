"""What each call asks and makes of the answers, without I/O: `Client` and `AsyncClient` both run these.

Rule 1: a call is a generator: it yields what is to be asked, is sent the good answer or thrown a ClientError, and returns
the call's result. Rule 2: what an answer holds is checked here; what is wrong is BadAnswer.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from edge.client import wire
from edge.client.errors import BadAnswer, Invalid
from edge.client.wire import HEADER, Body, Prediction

T = TypeVar("T")
JSON, OCTETS = "application/json", "application/octet-stream"
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_KNOWN_INPUTS = 256
"""Models whose only input's name is remembered."""


class Ask(NamedTuple):
    """One request. `pieces` of the body follow each other; `accepted`: statuses that are no error here."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    pieces: Sequence[bytes | memoryview] = ()
    accepted: frozenset[int] = frozenset({200})


class Answer(NamedTuple):
    """`head_length` is the value of wire.HEADER, empty for none."""

    status: int
    head_length: str
    body: Body


Call = Generator[Ask, Answer, T]


class ModelVersion(msgspec.Struct, frozen=True):
    """`state` as Triton has it: READY, LOADING, UNLOADING, UNAVAILABLE; `reason` why it is that, if that is told."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class Choice(msgspec.Struct, frozen=True):
    """A class of a picture. `label` is the index in words where the model has no names."""

    label: str
    index: int
    score: float | None


class Tensor(msgspec.Struct, frozen=True):
    """-1 in `shape` stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Metadata(msgspec.Struct, frozen=True):
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    versions: tuple[str, ...] = ()
    platform: str = ""


class Health(msgspec.Struct, frozen=True):
    """`live`: the server runs; `ready`: every model that it should serve answers."""

    live: bool
    ready: bool


class _Labelled(msgspec.Struct):
    class _Spec(msgspec.Struct):
        version: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$")]

    model_spec: _Spec


class _Predictions(msgspec.Struct):
    predictions: Any


class _Best(msgspec.Struct):
    predictions: list[list[Choice]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a model, beside its inputs. `dequantize` None: as the model's settings have it."""

    version: int | None = None
    label: str | None = None
    outputs: Sequence[str] | None = None
    dequantize: bool | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise Invalid("want a version or a label, got both")


@dataclass
class KnownInputs:
    """The name of the only input of models that have one, as it was last seen."""

    names: dict[tuple[str, int | None], str] = field(default_factory=dict)

    def remember(self, model: str, version: int | None, name: str) -> None:
        if len(self.names) >= MAX_KNOWN_INPUTS:
            self.names.clear()
        self.names[model, version] = name


def predict(known: KnownInputs, model: str, inputs: Any, wish: Wish) -> Call[Prediction]:
    """Arrays by name, or one array for a model with one input."""
    version = wish.version if wish.label is None else (yield from labelled(model, wish.label))
    if isinstance(inputs, Mapping):
        return (yield from _infer(model, version, inputs, wish))
    name = known.names.get((model, version))
    if name is not None:
        try:
            return (yield from _infer(model, version, {name: inputs}, wish))
        except Invalid:
            # A version that was swapped in since may call it otherwise.
            known.names.pop((model, version), None)
            if (now := (yield from _only_input(model, version))) == name:
                raise
            name = now
    else:
        name = yield from _only_input(model, version)
    known.remember(model, version, name)
    return (yield from _infer(model, version, {name: inputs}, wish))


def _infer(model: str, version: int | None, inputs: Mapping[str, Any], wish: Wish) -> Call[Prediction]:
    parameters = {} if wish.dequantize is None else {"dequantize": wish.dequantize}
    request = wire.encode(inputs, wish.outputs, parameters)
    headers = {"Content-Type": OCTETS, HEADER: str(request.head)}
    answer = yield Ask("POST", f"{_v2(model, version)}/infer", headers, request.pieces)
    return wire.decode(answer.head_length, answer.body)


def _only_input(model: str, version: int | None) -> Call[str]:
    told = yield from metadata(model, version)
    if len(told.inputs) != 1:
        names = ", ".join(tensor.name for tensor in told.inputs)
        raise Invalid(f"{model}: want a dict of arrays for the inputs {names}, got one array")
    return told.inputs[0].name


def labelled(model: str, label: str) -> Call[int]:
    """The version that carries a label: the protocol of tensors as bytes knows no labels."""
    answer = yield Ask("GET", f"/v1/models/{quote(model, safe='')}/labels/{quote(label, safe='')}/metadata")
    return int(_read(answer, _Labelled).model_spec.version)


def predict_json(model: str, instances: Any, wish: Wish, signature: str | None = None) -> Call[Any]:
    """Rows of TensorFlow Serving's REST API."""
    document = {"instances": instances} | ({"signature_name": signature} if signature is not None else {})
    try:
        body = msgspec.json.encode(document, enc_hook=_to_list)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"instances: want rows that JSON can hold: {error}") from None
    answer = yield Ask("POST", f"{_v1(model, wish)}:predict", {"Content-Type": JSON}, [body])
    return _read(answer, _Predictions).predictions


def _to_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()  # an array of numpy's, or one number of it
    raise TypeError(f"want numbers, strings, lists and dicts, got {type(value).__name__}")


def classify(model: str, image: bytes, wish: Wish, top: int) -> Call[list[Choice]]:
    """The best classes of one JPEG or PNG, best first."""
    kind = "image/jpeg" if image.startswith(JPEG) else "image/png" if image.startswith(PNG) else ""
    if not kind:
        raise Invalid(f"want the bytes of a JPEG or PNG, got {image[:8]!r}")
    answer = yield Ask("POST", f"{_v1(model, wish)}:predict?top={int(top)}", {"Content-Type": kind}, [image])
    rows = _read(answer, _Best).predictions
    if len(rows) != 1:
        raise BadAnswer(f"want the classes of one picture, got those of {len(rows)}")
    return rows[0]


def picture(image: bytes | str | PathLike[str]) -> bytes:
    """A picture's bytes, or those of the file. Blocks. Raises Invalid, OSError."""
    if isinstance(image, bytes):
        return image
    with open(image, "rb") as file:
        content = file.read(MAX_IMAGE_BYTES + 1)
    if len(content) > MAX_IMAGE_BYTES:
        raise Invalid(f"{image}: want a picture of at most {MAX_IMAGE_BYTES} bytes")
    return content


def models() -> Call[list[ModelVersion]]:
    answer = yield Ask("POST", "/v2/repository/index", {"Content-Type": JSON}, [b"{}"])
    return _read(answer, list[ModelVersion])


def metadata(model: str, version: int | None = None) -> Call[Metadata]:
    answer = yield Ask("GET", _v2(model, version))
    return _read(answer, Metadata)


def ready(model: str | None = None) -> Call[bool]:
    path = "/v2/health/ready" if model is None else f"{_v2(model, None)}/ready"
    answer = yield Ask("GET", path, accepted=frozenset({200, 400}))
    return answer.status == 200


def health() -> Call[Health]:
    live = yield Ask("GET", "/v2/health/live", accepted=frozenset({200, 400}))
    return Health(live.status == 200, (yield from ready()))


def _v2(model: str, version: int | None) -> str:
    return f"/v2/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{int(version)}")


def _v1(model: str, wish: Wish) -> str:
    path = f"/v1/models/{quote(model, safe='')}"
    if wish.label is not None:
        return f"{path}/labels/{quote(wish.label, safe='')}"
    return path if wish.version is None else f"{path}/versions/{int(wish.version)}"


def _read(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadAnswer(f"the answer is not as it should be: {error}", answer.status) from None
