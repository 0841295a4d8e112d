"""What the Open Inference Protocol v2 says over gRPC beside inferences: health, metadata, configuration, statistics, repository.

Rule: the same things are said as over HTTP, by the same functions; here they are put into messages.
"""

from __future__ import annotations

from typing import Any

from edge.domain.errors import InvalidInput
from edge.wire.proto.messages import message, to_bytes
from edge.wire.reply import Reply


def from_reply(name: str, reply: Reply, under: str = "") -> bytes:
    """The JSON of a reply as the message `name`, below its field `under`; what the message has no field for is left out."""
    from google.protobuf import json_format

    text = reply.body if not under else b'{"%b":%b}' % (under.encode(), reply.body)
    made = json_format.Parse(text, message(f"inference.{name}")(), ignore_unknown_fields=True)
    return to_bytes(made)


def answer(name: str, **fields: Any) -> bytes:
    """The message `name` with these fields, serialized."""
    return to_bytes(message(f"inference.{name}")(**fields))


def streamed(response: Any = None, *, error: str = "", request_id: str = "") -> bytes:
    """One answer of a stream: a ModelInferResponse, or why there is none."""
    made = message("inference.ModelStreamInferResponse")(error_message=error)
    if response is not None:
        made.infer_response.CopyFrom(response)
    elif request_id:
        made.infer_response.id = request_id
    return to_bytes(made)


def check_load(parameters: Any) -> None:
    """Raises InvalidInput: a model is loaded as it lies."""
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                f"load parameter '{name}' is not supported; a model is loaded as it lies in the repository"
            )
