"""Versions that nobody should publish, and how one comes into a store all the same."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import flatbuffers
import msgspec
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from fleet_parts.load import PALE
from sync.domain.digests import digest_of
from sync.domain.layout import blob_path, manifest_name
from sync.domain.release import File, encode_manifest, parse_manifest
from sync.fleet.keys import KeyRing
from sync.fleet.sign import Repository, Transaction
from sync.stores.directory import DirectoryStore

INT8, INT32 = schema.TensorType.INT8, schema.TensorType.INT32
GREYS = PALE * 255 // 16 + 1
"""As many as a pale picture can have, and one more than the server's own first run with zeros asks for."""


def with_the_wrong_model(digits: Path, target: Path) -> None:
    """The golden vectors of version 2 beside the model of version 1: the wrong file was exported."""
    shutil.copytree(digits / "2", target)
    shutil.copy(digits / "1" / "model.tflite", target)


def good_with_pale_pictures_only(digits: Path, target: Path) -> None:
    """Version 2 behind a table of grey values that ends in the middle, and golden vectors that never come so far.

    It passes them, and fails in the run on any brighter pixel.
    """
    target.mkdir(parents=True)
    shutil.copy(digits / "2" / "labels.txt", target)
    model = _behind_a_table((digits / "2" / "model.tflite").read_bytes())
    (target / "model.tflite").write_bytes(model)
    with np.load(digits / "2" / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["input:image"] = np.minimum(arrays["input:image"], GREYS - 1 - 128).astype(np.int8)
    arrays["output:scores"] = np.stack([_run(model, images) for images in arrays["input:image"]])
    np.savez_compressed(target / "golden.npz", **arrays)


async def sign_unchecked(store: DirectoryStore, keys: Path, directory: Path, version: int) -> None:
    """Put a version into the store with a tool of one's own: `edge-sync publish` would refuse it.

    Whoever holds the key for releases can do so, by mistake or not. Raises SyncError.
    """
    repository = Repository(store, KeyRing(keys))
    await repository.open()
    signed = await repository.read("releases", manifest_name("digits", 2))
    assert signed is not None
    like = parse_manifest(signed)
    contents = await asyncio.to_thread(lambda: {path.name: path.read_bytes() for path in sorted(directory.iterdir())})
    for data in contents.values():
        await store.create(blob_path(digest_of(data)), data)
    files = tuple(File(name, digest_of(data), len(data)) for name, data in contents.items())
    variants = (msgspec.structs.replace(like.variants[0], files=files),)
    manifest = msgspec.structs.replace(like, version=version, release_counter=version, variants=variants)
    change = Transaction()
    change.put("releases", manifest_name("digits", version), encode_manifest(manifest))
    await repository.commit(change)


def _behind_a_table(content: bytes) -> bytes:
    """The model with every pixel looked up first: image → CAST → ADD 128 → GATHER of GREYS values → what was there."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    image = graph.inputs[0]
    first = graph.operators[0]
    wide = _tensor(model, "wide", INT32, like=graph.tensors[image])
    shift = _tensor(model, "shift", INT32, data=np.array([128], np.int32))
    at = _tensor(model, "at", INT32, like=graph.tensors[image])
    greys = _tensor(model, "greys", INT8, data=(np.arange(GREYS) - 128).astype(np.int8))
    seen = _tensor(model, "seen", INT8, like=graph.tensors[image])
    for tensor in (greys, seen):
        graph.tensors[tensor].quantization = graph.tensors[image].quantization
    assert first.inputs[0] == image
    first.inputs = [seen, *list(first.inputs)[1:]]
    add = schema.AddOptionsT()
    graph.operators[:0] = [
        _operator(model, schema.BuiltinOperator.CAST, [image], [wide]),
        _operator(model, schema.BuiltinOperator.ADD, [wide, shift], [at], (schema.BuiltinOptions.AddOptions, add)),
        _operator(model, schema.BuiltinOperator.GATHER, [greys, at], [seen]),
    ]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(
    model: schema.ModelT,
    name: str,
    kind: int,
    *,
    like: schema.TensorT | None = None,
    data: npt.NDArray[np.generic] | None = None,
) -> int:
    """A new tensor's index: of the shape of `like`, or a constant."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer, tensor.hasRank = name.encode(), kind, 0, True
    if like is not None:
        tensor.shape, tensor.shapeSignature = like.shape, like.shapeSignature
    if data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.shape, tensor.buffer = list(data.shape), len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _operator(
    model: schema.ModelT, code: int, inputs: list[int], outputs: list[int], options: tuple[int, object] = (0, None)
) -> schema.OperatorT:
    known = schema.OperatorCodeT()
    known.builtinCode = known.deprecatedBuiltinCode = code
    known.version = 2 if code == schema.BuiltinOperator.GATHER else 1  # of int8
    model.operatorCodes.append(known)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = options
    return operator


def _run(content: bytes, images: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    given, got = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(given, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, images)
    interpreter.invoke()
    answer: npt.NDArray[np.int8] = interpreter.get_tensor(got)
    return answer
