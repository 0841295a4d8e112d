"""What commands have in common, whether the server obeys or the agent. Pure.

Rule: an answer has the shape that people know from zigbee2mqtt: `status`, `data` or `error`, and the `transaction` that was sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

MAX_COMMAND_BYTES = 4096
MAX_TRANSACTION_CHARS = 128

Transaction = str | int | None
"""What a client knows its command by, where it says one."""


def answer_body(data: dict[str, Any], problem: str, transaction: Transaction) -> bytes:
    """`problem`: why it was not done, empty where it was."""
    told: dict[str, Any] = {"status": "error", "error": problem} if problem else {"status": "ok"}
    told["data"] = data
    if transaction is not None:
        told["transaction"] = transaction
    return msgspec.json.encode(told)
