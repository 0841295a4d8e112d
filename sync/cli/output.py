"""What commands print: the answer on stdout, for people or as JSON; nothing that a store says can move a terminal's cursor."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from typing import Any, TypeVar, cast

import click

from sync.fleet.faults import Faults

F = TypeVar("F", bound=Callable[..., Any])

MAX_SHOWN = 100
"""Faults that are printed for people; JSON has them all."""


def quietly(command: F) -> F:
    """--quiet: nothing on stdout but JSON, where that is asked for. What goes wrong is said on stderr all the same."""

    @wraps(command)
    def may_be_quiet(*args: Any, quiet: bool, **rest: Any) -> Any:
        if not quiet or rest.get("json") or rest.get("as_json"):
            return command(*args, **rest)
        with redirect_stdout(io.StringIO()):
            return command(*args, **rest)

    option = click.option("--quiet", is_flag=True, help="Say nothing where all is well; the exit code says it.")
    return cast(F, option(may_be_quiet))


def plain(text: str) -> str:
    """Without what a terminal would act on."""
    return "".join(char if char.isprintable() else "�" for char in text)


def say(text: str) -> None:
    print(plain(text), flush=True)


def warn(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_faults(faults: Faults) -> None:
    for fault in faults.found[:MAX_SHOWN]:
        say(f"FAULT  {fault}")
    if faults.count > MAX_SHOWN:
        say(f"FAULT  and {faults.count - min(len(faults.found), MAX_SHOWN)} more")


def faults_as_json(faults: Faults) -> list[dict[str, str]]:
    return [{"where": each.where, "reason": each.error.reason.value, "detail": each.error.message} for each in faults.found]  # fmt: skip


def counted(faults: int) -> str:
    return "no fault" if faults == 0 else "1 fault" if faults == 1 else f"{faults} faults"
