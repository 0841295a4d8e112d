"""What the server and a worker say to each other. Tensors do not travel here: a message says where in shared memory they lie.

Rule 1: whatever comes is checked against these types, and against MAX_MESSAGE_BYTES: a worker runs a stranger's model.
Rule 2: a message is one MessagePack value behind its length in bytes (LENGTH_BYTES, little endian). Rule 3: a text that may be
told to somebody is one line of what can be printed, of at most MAX_REASON_CHARS, whoever wrote it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edge.domain.tensors import DType, Signature, TensorSpec

MAX_MESSAGE_BYTES = 16 * 2**20
LENGTH_BYTES = 4
MAX_REASON_CHARS = 2_000
BAD_OUTPUTS = "bad_outputs"


class Begin(msgspec.Struct, tag=True):
    """To a worker: load what `job` says, in the program's own words. `tensor_bytes`: the most that may lie in an arena.
    `idle`: whatever else wants a processor goes first."""

    job: dict[str, Any]
    tensor_bytes: int
    idle: bool = False


class Prepared(msgspec.Struct, tag=True):
    """The runtime is imported: from here on it is the model that takes memory. `resident_bytes`: so far."""

    resident_bytes: int


class Spec(msgspec.Struct, array_like=True):
    """A tensor of a signature; `shape` as in `TensorSpec`."""

    name: str
    dtype: DType
    shape: tuple[int, ...] | None


class Call(msgspec.Struct, array_like=True):
    """A signature."""

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]

    @classmethod
    def of(cls, signature: Signature) -> Call:
        return cls(signature.name, _specs(signature.inputs), _specs(signature.outputs))

    @property
    def signature(self) -> Signature:
        inputs, outputs = ({each.name: TensorSpec(each.name, each.dtype, each.shape) for each in specs} for specs in (self.inputs, self.outputs))  # fmt: skip
        return Signature(self.name, inputs, outputs)


class Loaded(msgspec.Struct, tag=True):
    """It can be run. `device`, `notice`, `max_batch`: as in `LoadedModel`."""

    calls: tuple[Call, ...]
    device: str
    notice: str
    max_batch: int


class Refused(msgspec.Struct, tag=True):
    """It cannot be loaded, and why, for a person."""

    reason: str


class Attach(msgspec.Struct, tag=True):
    """To a worker: another line to serve, whose socket comes with this."""


class Tensor(msgspec.Struct, array_like=True):
    """Where a tensor's `size` bytes lie: `at` bytes from the start of the arena."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    at: int
    size: int


class Run(msgspec.Struct, tag=True):
    """`arena` is `arena_bytes` long; its memory comes with this the first time. Outputs may lie from `free_at` on.

    `forget`: arenas that will not be used any more.
    """

    signature: str
    arena: int
    arena_bytes: int
    inputs: tuple[Tensor, ...]
    free_at: int
    forget: tuple[int, ...] = ()


class Ran(msgspec.Struct, tag=True):
    """The outputs are in the arena, which has grown to `arena_bytes` if it had to."""

    outputs: tuple[Tensor, ...]
    arena_bytes: int


class Failed(msgspec.Struct, tag=True):
    """`code`: one of `edge.domain.errors.Code`, or BAD_OUTPUTS. `last`: the worker can no longer be trusted, and ends."""

    code: str
    reason: str
    last: bool = False


Message = Begin | Prepared | Loaded | Refused | Attach | Run | Ran | Failed
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Garbage(Exception):
    """What came is no message that may come here."""

    def __init__(self, why: str) -> None:
        super().__init__(shown(why))


def encode(message: Message) -> bytes:
    """With its length before it. Raises Garbage for one that is too long to be read."""
    data = _ENCODER.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise Garbage(f"want a message of at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def decode(data: bytes | bytearray) -> Message:
    """Its texts are fit to be told. Raises Garbage."""
    try:
        message = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Garbage(str(error)) from None
    if isinstance(message, Failed | Refused):
        message.reason = shown(message.reason)
    elif isinstance(message, Loaded):
        message.device, message.notice = shown(message.device), shown(message.notice)
    return message


def shown(text: str) -> str:
    """One line of it, with nothing that could steer a terminal or fill a log."""
    cut = text if len(text) <= MAX_REASON_CHARS else f"{text[: MAX_REASON_CHARS - 1]}…"
    return "".join(char if char.isprintable() else " " if char.isspace() else "�" for char in cut)


def _specs(specs: Any) -> tuple[Spec, ...]:
    return tuple(Spec(spec.name, spec.dtype, spec.shape) for spec in specs.values())
