"""Golden vectors: inputs of a version and the outputs that it must give, in one `golden.npz`.

Rule 1: the file is hostile: nothing is unpickled, and no array is made before its size was checked against the file.
Rule 2: LoadError is all that comes out.

Arrays `input:<tensor>` and `output:<tensor>` have a leading axis of runs; scalars `atol`, `rtol` (tolerances of
`numpy.isclose`, 0 by default), `min_match` (a share of elements, 1 by default) and `max_ms` (0: any time will do).
Strings are fixed-width bytes, which lose trailing zero bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from edge.domain.errors import LoadError
from edge.domain.tensors import Array
from edge.files import open_regular

if TYPE_CHECKING:
    import zipfile

MAX_GOLDEN_BYTES = 256 * 2**20
"""Of all arrays together, unpacked."""
MAX_ARRAYS = 256
_SCALARS = {"atol": 0.0, "rtol": 0.0, "min_match": 1.0, "max_ms": 0.0}


@dataclass(frozen=True, slots=True)
class Golden:
    """Arrays by tensor name, each with a leading axis of `runs`. `outputs` may leave some out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    runs: int
    atol: float = 0.0
    rtol: float = 0.0
    min_match: float = 1.0
    max_ms: float = 0.0

    def input(self, run: int) -> dict[str, Array]:
        """What one run is given: each array without the leading axis."""
        return {name: np.asarray(array[run]) for name, array in self.inputs.items()}


def load_golden(path: Path) -> Golden:
    """Raises LoadError: not readable, not such a file, too large, or its arrays do not fit together."""
    import zipfile  # with what it imports, for models that have golden vectors

    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return _golden(path.name, _arrays(path.name, archive))
    except OSError as error:
        raise LoadError(f"{path.name}: cannot be read: {error.strerror or error}") from None
    except LoadError:
        raise
    except Exception as error:
        # zipfile, zlib and numpy's parser of headers each have errors of their own for bytes that make no sense.
        raise LoadError(f"{path.name}: want an .npz file without pickled objects: {error}") from None


def _arrays(name: str, archive: zipfile.ZipFile) -> dict[str, Array]:
    entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ARRAYS or size > MAX_GOLDEN_BYTES:
        raise LoadError(
            f"{name}: want at most {MAX_ARRAYS} arrays of {MAX_GOLDEN_BYTES} bytes together, got {len(entries)} of {size}"
        )
    arrays = {}
    for entry in entries:
        with archive.open(entry) as file:
            _check_header(name, entry, file)
        with archive.open(entry) as file:
            arrays[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _check_header(name: str, entry: zipfile.ZipInfo, file: IO[bytes]) -> None:
    """numpy makes room for what a header claims before it reads on."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if math.prod(shape) * max(1, dtype.itemsize) > entry.file_size:
        raise LoadError(f"{name}: {entry.filename}: claims {shape} of {dtype} in {entry.file_size} bytes")


def _golden(name: str, arrays: dict[str, Array]) -> Golden:
    scalars = {key: _scalar(name, key, arrays.pop(key)) for key in _SCALARS if key in arrays}
    inputs = {key.removeprefix("input:"): _strings(arrays.pop(key)) for key in list(arrays) if key.startswith("input:")}
    outputs = {
        key.removeprefix("output:"): _strings(arrays.pop(key)) for key in list(arrays) if key.startswith("output:")
    }
    if arrays:
        raise LoadError(f"{name}: {', '.join(arrays)}: want input:<tensor>, output:<tensor>, {', '.join(_SCALARS)}")
    lengths = {array.shape[0] if array.ndim else 0 for array in (*inputs.values(), *outputs.values())}
    if not inputs or not outputs or len(lengths) != 1 or 0 in lengths:
        raise LoadError(f"{name}: want inputs and outputs, all with the same number of runs, got {sorted(lengths)}")
    return Golden(inputs, outputs, lengths.pop(), **scalars)


def _scalar(name: str, key: str, array: Array) -> float:
    if array.size != 1 or array.dtype.kind not in "iuf" or not 0 <= float(array.reshape(())) < math.inf:
        raise LoadError(f"{name}: {key}: want one number from 0 up, got {array.dtype} {list(array.shape)}")
    value = float(array.reshape(()))
    if key == "min_match" and value > 1:
        raise LoadError(f"{name}: min_match: want a share from 0 to 1, got {value:g}")
    return value


def _strings(array: Array) -> Array:
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array.astype(object) if array.dtype.kind == "S" else array
