"""How the server behaves in TensorFlow Serving's place: what it says when its ports open, and how its model config is reloaded.

Rule 1: a config that cannot be taken changes nothing, and is told once, or at every poll where it may become possible by
itself. Rule 2: a label moves to a version that answers, and to no other. Source: tensorflow_serving/model_servers/server.cc
(PollFilesystemAndReloadConfig) and server_core.cc (UpdateModelVersionLabelMap).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import Config, ConfigError
from edge.config.tfserving.files import MAX_FILE_BYTES, Refused, invalid, read_message
from edge.config.tfserving.flags import Given
from edge.config.tfserving.messages import MODELS
from edge.config.tfserving.models import check_labels, check_platforms, entries
from edge.files import open_regular
from edge.tfserving_cli.settle import Settled, settle

if TYPE_CHECKING:
    from edge.doors import Addresses

log = logging.getLogger("tensorflow_model_server")


class Standin:
    """One server's; implements edge.app.Conduct."""

    def __init__(self, given: Given, settled: Settled) -> None:
        self._given = given
        self._file = Path(given.text("model_config_file")) if given.text("model_config_file") else None
        self._platforms = {model.name: model.platform for model in settled.models}
        self._seen = fingerprint(self._file)
        self._grpc = settled.grpc
        self._again = False

    def opened(self, at: Addresses) -> None:
        """The lines that scripts wait for."""
        for line in self._grpc:
            log.info("Running gRPC ModelServer at %s ...", line)
        if at.url:
            log.info("Exporting HTTP/REST API at:localhost:%s ...", at.url.rpartition(":")[2])
            log.info("Entering the event loop ...")

    def reread(self) -> Config:
        """What flags and files say now. Blocks. Raises ConfigError, in TensorFlow Serving's words."""
        try:
            self._check_transition()
            settled = settle(self._given, os.environ)
        except Refused as error:
            raise ConfigError([(error.detail and f"{error.detail}; {error.message}") or error.message]) from None
        self._platforms = {model.name: model.platform for model in settled.models}
        return settled.config

    def _check_transition(self) -> None:
        """Raises Refused."""
        if self._file is None:
            return
        config = read_message(self._file, MODELS)
        if not config:
            raise invalid("Taking no action for empty config.")
        check_platforms(entries(config), self._platforms)

    def judge(self, old: Config, new: Config, available: Mapping[str, Collection[int]]) -> None:
        self._again = False
        try:
            check_labels(
                {name: model.labels for name, model in new.models.items()},
                {name: model.labels for name, model in old.models.items()},
                available,
                allow_unavailable=self._given.on("allow_version_labels_for_unavailable_models"),
            )
        except Refused as error:
            self._again = True
            raise ConfigError([error.message]) from None

    async def follow(self, reload: Callable[[], None]) -> None:
        every_s = self._given.number("model_config_file_poll_wait_seconds")
        if self._file is None or every_s <= 0:
            return
        while True:
            await asyncio.sleep(every_s)
            now = await asyncio.to_thread(fingerprint, self._file)
            if now != self._seen or self._again:
                self._seen = now
                reload()


def fingerprint(file: Path | None) -> bytes:
    """Of what is in the file; empty where it cannot be read. Blocks."""
    if file is None:
        return b""
    try:
        with open_regular(file) as opened:
            return hashlib.sha256(opened.read(MAX_FILE_BYTES + 1)).digest()
    except OSError:
        return b""
