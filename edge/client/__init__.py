"""A client for `edge`, by URL, by Unix socket or by discovery. It needs nothing of the server.

    from edge.client import Client

    with Client("http://localhost:8501") as client:
        scores = client.predict("digits", pixels).only

What a class needs is imported when it is used: who asks by URL waits for no library of asyncio's or of discovery's.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge.client.attempts import ONCE, Retries
from edge.client.calls import Choice, Health, Metadata, ModelVersion, Tensor
from edge.client.client import Client
from edge.client.errors import (
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    NotFound,
    NotReady,
    Overloaded,
    ServerFailed,
    TooLarge,
    Unauthenticated,
    Unreachable,
)
from edge.client.wire import Prediction

if TYPE_CHECKING:
    from edge.client.async_client import AsyncClient
    from edge.client.discovery import discover, discover_all
    from edge.client.found import Node

_LATER = {
    "AsyncClient": "edge.client.async_client",
    "Node": "edge.client.found",
    "discover": "edge.client.discovery",
    "discover_all": "edge.client.discovery",
}

__all__ = [
    "ONCE",
    "AsyncClient",
    "BadAnswer",
    "Choice",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Forbidden",
    "Health",
    "Invalid",
    "Metadata",
    "ModelVersion",
    "Node",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Prediction",
    "Retries",
    "ServerFailed",
    "Tensor",
    "TooLarge",
    "Unauthenticated",
    "Unreachable",
    "discover",
    "discover_all",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
