"""The model repository extension: what models there are, and loading and unloading them.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.domain.errors import InvalidInput
from edge.domain.lifecycle import State
from edge.domain.ports import ModelStatus, VersionStatus
from edge.wire.reply import JSON, Reply, json_reply
from edge.wire.v2_exact import Members, parse

# Of the protocol's states there are four, and a version that was never loaded is as unavailable as one that failed.
STATES: dict[State, str] = {
    State.NEW: "UNAVAILABLE",
    State.LOADING: "LOADING",
    State.TESTING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
    State.FAILED: "UNAVAILABLE",
}


def wants_ready_only(body: bytes) -> bool:
    """What a request for the index says: `{"ready":true}`, or nothing at all. Raises InvalidInput."""
    if not body:
        return False
    ready = Members(parse(body)).get("ready", False)
    if not isinstance(ready, bool):
        raise InvalidInput("Invalid value for 'ready': expected a boolean")
    return ready


def index(models: Sequence[ModelStatus], *, ready_only: bool) -> Reply:
    """Every version, in ascending order; a model without any is named all the same."""
    rows: list[dict[str, str]] = []
    for model in models:
        rows += [_row(version) for version in reversed(model.versions)]
        if not model.versions:
            rows.append({"name": model.name, "state": "UNAVAILABLE", "reason": model.problem or "no version is there"})
    if ready_only:
        rows = [row for row in rows if row["state"] == "READY"]
    return json_reply(rows)


def _row(version: VersionStatus) -> dict[str, str]:
    """A version that is ready has a reason too where it is not served as was wished: from the CPU, say."""
    row = {"name": version.id.name, "version": str(version.id.version), "state": STATES[version.state]}
    reason = version.reason or ("unloaded" if version.state is State.UNLOADED else version.notice)
    return {**row, "reason": reason} if reason else row


def check_control(body: bytes) -> None:
    """Whether a request to load or unload can be done as it says. Raises InvalidInput.

    A configuration or files in the request are refused, for they would change what is signed and lies on disk.
    """
    if not body:
        return
    parameters: Any = Members(parse(body)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidInput("Unable to parse 'parameters': attempt to access JSON non-object as object")
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                f"load parameter '{name}' is not supported; a model is loaded as it lies in the repository"
            )


def controlled() -> Reply:
    """The reply to a load or unload that happened."""
    return Reply(200, {"Content-Type": JSON}, b"")
