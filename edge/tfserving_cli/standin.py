"""How the server behaves in TensorFlow Serving's place: what it says when its ports open, and how its model config is replaced.

Rule 1: a config that cannot be taken changes nothing, and is told once, or at every poll where it may become possible by
itself. Rule 2: a label moves to a version that answers, and to no other. Rule 3: what a client sent holds until the file
changes. Source: tensorflow_serving/model_servers/server.cc (PollFilesystemAndReloadConfig), server_core.cc (ReloadConfig)
and model_service_impl.cc.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.config import Config, ConfigError
from edge.config.tfserving.files import MAX_FILE_BYTES, Refused, invalid, read_message
from edge.config.tfserving.flags import Given
from edge.config.tfserving.messages import MODELS
from edge.config.tfserving.models import check_labels, check_platforms, entries
from edge.domain.errors import InvalidInput, TooEarly, TooLarge
from edge.files import open_regular
from edge.tfserving_cli.settle import Settled, settle, with_models

if TYPE_CHECKING:
    from edge.frontends.addresses import Addresses

log = logging.getLogger("tensorflow_model_server")

Available = Mapping[str, Collection[int]]


class Standin:
    """One server's; implements edge.reloading.Conduct."""

    def __init__(self, given: Given, settled: Settled) -> None:
        self._given, self._settled = given, settled
        self._file = Path(given.text("model_config_file")) if given.text("model_config_file") else None
        self._seen = fingerprint(self._file)
        self._again = False

    def opened(self, at: Addresses) -> None:
        """The lines that scripts wait for."""
        for line in self._settled.grpc:
            log.info("Running gRPC ModelServer at %s ...", line)
        if at.url:
            log.info("Exporting HTTP/REST API at:localhost:%s ...", at.url.rpartition(":")[2])
            log.info("Entering the event loop ...")

    def reread(self, old: Config, available: Available) -> Config:
        """What flags and files say now. Blocks. Raises ConfigError, in TensorFlow Serving's words."""
        self._again = False
        self._seen = fingerprint(self._file)
        try:
            if self._file is not None:
                config = read_message(self._file, MODELS)
                if not config:
                    raise invalid("Taking no action for empty config.")
                self._check_platforms(config)
            settled = settle(self._given, os.environ, again=True)
            self._check_labels(old, settled, available)
        except TooEarly as error:
            self._again = True
            raise ConfigError([error.message]) from None
        except Refused as error:
            raise ConfigError([(error.detail and f"{error.detail}; {error.message}") or error.message]) from None
        return self._taken(settled)

    def reconfigured(self, sent: bytes, old: Config, available: Available) -> Config:
        """The models of a client's ModelServerConfig, beside all else that holds. Blocks. Raises InvalidInput, TooEarly,
        TooLarge, in TensorFlow Serving's words."""
        from edge.wire.tfserving_grpc_models import read_config  # for those who have gRPC

        if len(sent) > MAX_FILE_BYTES:
            raise TooLarge(f"ModelServerConfig: want at most {MAX_FILE_BYTES} bytes, got {len(sent)}")
        config = read_config(sent)
        if "model_config_list" not in config:
            raise InvalidInput(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        try:
            self._check_platforms(config)
            settled = with_models(self._settled, self._given, os.environ, config)
            self._check_labels(old, settled, available)
        except Refused as error:
            raise InvalidInput(error.message) from None
        except ConfigError as error:
            raise InvalidInput("; ".join(error.problems)) from None
        self._again = False
        return msgspec.structs.replace(old, models=self._taken(settled).models)

    def _taken(self, settled: Settled) -> Config:
        for note in settled.notes:
            if note not in self._settled.notes:
                log.warning(note)
        self._settled = settled
        return settled.config

    def _check_platforms(self, config: Mapping[str, Any]) -> None:
        """Raises Refused."""
        check_platforms(entries(config), {model.name: model.platform for model in self._settled.models})

    def _check_labels(self, old: Config, settled: Settled, available: Available) -> None:
        """Raises TooEarly."""
        try:
            check_labels(
                {name: model.labels for name, model in settled.config.models.items()},
                {name: model.labels for name, model in old.models.items()},
                available,
                allow_unavailable=self._given.on("allow_version_labels_for_unavailable_models"),
            )
        except Refused as error:
            raise TooEarly(error.message) from None

    async def follow(self, reload: Callable[[], None]) -> None:
        """Until cancelled: asks for a reload when the file's text is another one, or what it says may be possible by now."""
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
