"""Backends that no process survives, for the child that tries a version. Each is given to it as `module:Class`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from edge.domain.errors import LoadError
from edge.domain.models import Artifact, ModelOptions
from tests.fakes.tflite import FakeBackend, FakeModel

HANG_S = 60.0
STEP_BYTES = 16 * 2**20


class Crashing(FakeBackend):
    """Reads where there is no memory, as C code does with a corrupt file."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        ctypes.string_at(0)
        raise AssertionError("survived")


class Hanging(FakeBackend):
    """Says in `pid` beside the model who it is, then waits."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        artifact.file("pid.part").write_text(str(os.getpid()))
        artifact.file("pid.part").rename(artifact.file("pid"))
        threading.Event().wait(HANG_S)
        raise AssertionError("nobody ended it")


class Forking(FakeBackend):
    """Starts somebody who stays, with both pipes, and says in `pid` who that is; then loads as it should."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        stays = subprocess.Popen(["sleep", str(HANG_S)])
        artifact.file("pid.part").write_text(str(stays.pid))
        artifact.file("pid.part").rename(artifact.file("pid"))
        return super().load(artifact, options)


class ForkingHang(Forking):
    """And waits."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        super().load(artifact, options)
        threading.Event().wait(HANG_S)
        raise AssertionError("nobody ended it")


class Eating(FakeBackend):
    """Takes memory until there is none, at most 8 GiB."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        eaten = [bytearray(STEP_BYTES) for _ in range(512)]
        raise AssertionError(f"ate {len(eaten)}")


class Killed(FakeBackend):
    """As the system does when memory runs out."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("survived")


class Babbling(FakeBackend):
    """Fills both pipes, then loads as it should."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        for stream in (sys.stdout, sys.stderr):
            stream.write("noise\n" * 200_000)
        return super().load(artifact, options)


class Raising(FakeBackend):
    """Has a bug."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        raise ZeroDivisionError("a bug")


class Refusing(FakeBackend):
    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        raise LoadError("no such operator")


class Telling(FakeBackend):
    """Writes down the conditions that it runs under."""

    def load(self, artifact: Artifact, options: ModelOptions) -> FakeModel:
        modules = sorted({name.partition(".")[0] for name in sys.modules})
        artifact.file("told").write_text(f"{os.nice(0)}\n{Path.cwd()}\n{' '.join(modules)}\n{options.num_threads}")
        return super().load(artifact, options)
