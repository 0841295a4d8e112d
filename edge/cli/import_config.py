"""`edge import-config`: TensorFlow Serving's files and flags as an edge.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import exits
from edge.cli.options import PATH, quiet

if TYPE_CHECKING:
    from edge.config.tfserving.carry import Carried
    from edge.config.tfserving.flags import Given

HEAD = "# Made from a configuration of TensorFlow Serving by `edge import-config`.\n"


@click.command(
    "import-config",
    short_help="Turn TensorFlow Serving's files and flags into an edge.toml.",
    help="""\b
Examples:
  edge import-config models.config > edge.toml
  edge import-config models.config batching.txt -o edge.toml -- --rest_api_port=8501 --enable_batching

Turn TensorFlow Serving's FILEs (model config, batching, monitoring) and its flags, which follow --, into an
edge.toml. What could not be carried is said on standard error.""",
)
@click.argument("words", metavar="FILE... [-- FLAG...]", nargs=-1, required=True)
@click.option("--output", "-o", "to", type=PATH, help="Write it there, where nothing must be yet.")
@quiet
def import_config(words: tuple[str, ...], to: Path | None, quiet: bool) -> None:
    from edge.config.tfserving.files import Refused

    files = [word for at, word in enumerate(words) if not any(each.startswith("--") for each in words[: at + 1])]
    try:
        carried = _carried(files, words[len(files) :])
    except Refused as error:
        said = f"{error.detail}\n  {error.message}" if error.detail else error.message
        raise exits.Failure(said, exits.USAGE) from None
    text = _checked(carried)
    for note in [] if quiet else carried.notes:
        click.echo(f"not carried: {note}", err=True)
    if to is None:
        click.echo(text, nl=False)
        return
    try:
        with to.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise exits.Failure(f"{to}: is there already, and is not overwritten") from None
    except OSError as error:
        raise exits.Failure(f"{to}: {error.strerror}") from None


def _carried(files: list[str], flags: tuple[str, ...]) -> Carried:
    """Raises Refused, Failure(USAGE)."""
    from edge.config import keys
    from edge.config.tfserving.carry import carry, read_files
    from edge.config.tfserving.flags import parse_flags

    given = parse_flags(flags)
    if given.wrong:
        raise exits.Failure("\n  ".join(given.wrong), exits.USAGE)
    said = read_files(given) | dict(_named(Path(file)) for file in files)
    _fill_in(given, said)
    carried = carry(given, said, grpc="grpc" in keys.SECTIONS, tensorflow=True)
    if not carried.models:
        raise exits.Failure("want a model config FILE, or --model_base_path behind --; got neither", exits.USAGE)
    carried.notes += [f"unknown argument: {word}" for word in given.unknown]
    carried.notes += [f"ssl_config_file: put what stands there into a file that {key} names" for key in carried.secrets]
    if given.number("model_config_file_poll_wait_seconds") > 0:
        carried.notes.append("--model_config_file_poll_wait_seconds: SIGHUP has edge.toml read again")
    return carried


def _named(file: Path) -> tuple[str, dict[str, Any]]:
    """The flag that the file belongs to, by what is in it, and what it says. Raises Refused."""
    from edge.config.tfserving.carry import FILES
    from edge.config.tfserving.files import Refused, read_message

    first: Refused | None = None
    for flag, message in FILES.items():
        try:
            return flag, read_message(file, message)
        except Refused as error:
            first = first or error
    assert first is not None
    raise first


def _fill_in(given: Given, said: dict[str, dict[str, Any]]) -> None:
    """A file needs no flag that only says that it is there; ports are those of the image, where no flag says others."""
    if "batching_parameters_file" in said:
        given.values.setdefault("enable_batching", True)
    given.values.setdefault("rest_api_port", 8501)


def _checked(carried: Carried) -> str:
    """The file, which `edge serve` can read. Raises Failure(USAGE)."""
    from edge.config import ConfigError, resolve
    from edge.domain.toml import to_toml

    hosts = {key: value for key, value in carried.defaults.items() if key.endswith(".host")}
    settings = hosts | carried.settings
    try:
        resolve(None, {}, settings)
    except ConfigError as error:
        raise exits.Failure("\n  ".join(["it would make no configuration:", *error.problems]), exits.USAGE) from None
    order = sorted(settings, key=lambda key: key.rpartition(".")[0])
    return HEAD + to_toml({key: settings[key] for key in order})
