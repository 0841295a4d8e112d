"""A directory of models as people and the agent change it, and what a running server says of it.

The model of a version multiplies by its number, so that an answer tells which version gave it.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import tflite_models
from tests.functional.server import Running
from tests.waiting import until_blocking

WITHIN_S = 90.0


class Repository:
    """Everything appears by rename, as a publisher should."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, version: int | str, files: bytes | Mapping[str, bytes] | None = None) -> Path:
        """A version, replacing one that is there. `files`: by name, or the model's alone; a scaling one if not given."""
        content = tflite_models.scaling(float(version)) if files is None else files
        target = self.path / name / str(version)
        staging = self.path / f".{name}-{version}.new"
        staging.mkdir(parents=True)
        for file, data in ({"model.tflite": content} if isinstance(content, bytes) else content).items():
            (staging / file).write_bytes(data)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        return target

    def drop(self, name: str, version: int | str) -> None:
        """By rename too: a directory that goes file by file would be seen half gone."""
        gone = self.path / f".{name}-{version}.gone"
        (self.path / name / str(version)).rename(gone)
        shutil.rmtree(gone)

    def aspire(self, name: str, *versions: int, **fields: object) -> None:
        document = {"format": "edge-aspired/1", "generation": 1, "versions": versions, **fields}
        self.aspire_text(name, json.dumps(document))

    def aspire_text(self, name: str, text: str) -> None:
        (self.path / name).mkdir(exist_ok=True)
        new = self.path / name / "aspired.json.new"
        new.write_text(text)
        new.rename(self.path / name / "aspired.json")


def answer(server: Running, name: str, route: str = "") -> float | int:
    """What a scaling model makes of 1, which is the version that answers; or else the status of the error."""
    status, body = server.ask(f"/v1/models/{name}{route}:predict", {"instances": [1.0]})
    return float(json.loads(body)["predictions"][0]) if status == 200 else status


def admin(server: Running, method: str, path: str) -> Any:
    """One request over the admin socket; JSON. Raises AssertionError for any answer but 200."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(WITHIN_S)
            self.sock.connect(str(server.admin))

    connection = Connection("localhost")
    try:
        connection.request(method, path)
        got = connection.getresponse()
        body = got.read()
        assert got.status == 200, body
        return json.loads(body)
    finally:
        connection.close()


def model_status(server: Running, name: str) -> dict[str, Any]:
    """Empty for a model that the server does not know."""
    found: dict[str, Any] = admin(server, "GET", "/v1/status")["models"].get(name, {})
    return found


def version_status(server: Running, name: str, version: int) -> dict[str, Any]:
    found: dict[str, Any] = model_status(server, name).get("versions", {}).get(str(version), {})
    return found


def states(server: Running, name: str) -> dict[str, str]:
    return {version: row["state"] for version, row in model_status(server, name).get("versions", {}).items()}


def reach(server: Running, name: str, **want: str) -> None:
    """`reach(server, "m", v2="ready")`: return once version 2 of `m` is ready."""
    wanted = {key.removeprefix("v"): state for key, state in want.items()}
    until_blocking(lambda: wanted.items() <= states(server, name).items(), lambda: model_status(server, name))
