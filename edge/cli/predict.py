"""`edge predict`: a picture, a JSON request or an array to a model, and the answer in words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from edge.cli import exits
from edge.cli.ask import Server
from edge.cli.completion import model_names
from edge.cli.options import PATH, as_json, print_json, print_table, printable
from edge.cli.reaching import reaching

if TYPE_CHECKING:
    from edge.domain.tensors import Array

MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".bmp": "image/bmp"}
MAX_FILE_BYTES = 256 * 1024 * 1024


@click.command(
    short_help="Ask a model about a picture, a request or an array.",
    help="""\b
Examples:
  edge predict mobilenet_v2 cat.jpg                 the three best classes
  edge predict mobilenet_v2 cat.jpg --top 5 --json
  edge predict half request.json                    a TensorFlow Serving request, as it is
  edge predict half x.npy                           an array for a model with one input

Ask a model about FILE: a picture (.jpg, .png, .bmp), a request (.json) or an array (.npy).""",
)
@click.argument("name", shell_complete=model_names)
@click.argument("file", type=PATH)
@click.option("--top", type=click.IntRange(1, 1000), default=3, show_default=True, help="Classes, for a picture.")
@click.option("--version", "pin", type=click.IntRange(0), metavar="N", help="A version other than the newest.")
@click.option("--label", metavar="LABEL", help="The version that the server's configuration gives this label.")
@as_json
@reaching
def predict(server: Server, name: str, file: Path, top: int, pin: int | None, label: str | None, as_json: bool) -> None:
    if pin is not None and label is not None:
        raise click.UsageError("want --version or --label, got both")
    content = _read(file)
    model = quote(name, safe="")
    try:
        if label is not None:
            pin = _labelled(server, model, label)
        route = model if pin is None else f"{model}/versions/{pin}"
        _predict(server, route, file, content, top=top, as_json=as_json)
    except exits.Failure as error:
        raise (_unknown(server, name) or error) if error.code == exits.NOT_FOUND else error from None


def _predict(server: Server, route: str, file: Path, content: bytes, *, top: int, as_json: bool) -> None:
    suffix = file.suffix.lower()
    if suffix == ".json":
        print_json(server.post_json(f"/v1/models/{route}:predict", content).or_fail().json())
    elif suffix == ".npy":
        _predict_array(server, route, content, as_json=as_json)
    elif suffix in MEDIA_TYPES:
        headers = {"Content-Type": MEDIA_TYPES[suffix]}
        answer = server.ask("POST", f"/v1/models/{route}:predict?top={top}", content, headers).or_fail().json()
        print_json(answer) if as_json else _print_classes(answer)
    else:
        raise click.UsageError(f"{file}: want {', '.join(MEDIA_TYPES)}, .json or .npy")


def _labelled(server: Server, model: str, label: str) -> int:
    """The version's number: v2, which an array is sent by, knows no labels."""
    answer = server.ask("GET", f"/v1/models/{model}/labels/{quote(label, safe='')}/metadata").or_fail().json()
    return int(answer["model_spec"]["version"])


def _unknown(server: Server, name: str) -> exits.Failure | None:
    """What to say of a model that the server does not know, with those that it does; None where it knows it."""
    try:
        rows = server.post_json("/v2/repository/index").or_fail().json()
        known = sorted({str(row["name"]) for row in rows})
    except (exits.Failure, KeyError, TypeError):
        return None
    if name in known:
        return None
    there = f"there is {', '.join(known)}" if known else "none is there"
    return exits.Failure(printable(f"{server.where}: no model {name}; {there}"), exits.NOT_FOUND)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        code = exits.NOT_FOUND if isinstance(error, FileNotFoundError) else exits.FAILED
        raise exits.Failure(f"{file}: {error.strerror}", code) from None
    if len(content) > MAX_FILE_BYTES:
        raise exits.Failure(f"{file}: want at most {MAX_FILE_BYTES} bytes")
    return content


def _print_classes(answer: Any) -> None:
    """A line for each of the best classes: its score, its index, its name."""
    try:
        rows = [choice for row in answer["predictions"] for choice in row]
        named = any(choice["label"] != str(choice["index"]) for choice in rows)  # by a labels.txt
        lines = [
            [_score(choice["score"]), str(choice["index"]), *([printable(choice["label"])] if named else [])]
            for choice in rows
        ]
    except (KeyError, TypeError):
        raise exits.Failure('want {"predictions": [[{"label", "index", "score"}]]} from the server') from None
    print_table(lines)


def _score(score: float | None) -> str:
    return "nan" if score is None else f"{score:.4f}"


def _predict_array(server: Server, route: str, content: bytes, *, as_json: bool) -> None:
    import numpy as np

    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise exits.Failure(f"want a .npy file of numbers: {error}") from None
    inputs = server.ask("GET", f"/v2/models/{route}").or_fail().json()["inputs"]
    if len(inputs) != 1:
        names = ", ".join(tensor["name"] for tensor in inputs)
        raise exits.Failure(f"want a model with one input for a .npy file; this one has {names}: send .json")
    header, body = _binary_request(inputs[0]["name"], array)
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    answer = server.ask("POST", f"/v2/models/{route}/infer", header + body, headers).or_fail().json()
    if as_json:
        print_json(answer)
        return
    for tensor in answer["outputs"]:
        values = np.array(tensor["data"], dtype=object if tensor["datatype"] == "BYTES" else None)
        click.echo(f"{printable(tensor['name'])} {tensor['datatype']} {tensor['shape']}")
        click.echo(np.array2string(values.reshape(tensor["shape"]), threshold=20))


def _binary_request(name: str, array: Array) -> tuple[bytes, bytes]:
    """The JSON head and the little-endian bytes of a v2 request with one input."""
    kinds = {
        "b": "BOOL",
        "f": f"FP{array.itemsize * 8}",
        "i": f"INT{array.itemsize * 8}",
        "u": f"UINT{array.itemsize * 8}",
    }
    if array.dtype.kind not in kinds:
        raise exits.Failure(f"want an array of numbers, got {array.dtype}")
    body = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    tensor = {"name": name, "datatype": kinds[array.dtype.kind], "shape": list(array.shape)}
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(body)}}]}
    return json.dumps(head).encode(), body
