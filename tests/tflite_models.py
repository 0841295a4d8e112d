"""TFLite models made on the spot: small graphs of well-known operators, each showing one thing.

The numbers are those of the published schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.domain.tensors import Array, DType
from tests.flatbuffer import Scalar, Table, Vector, serialize

TYPES = {
    DType.FLOAT32: 0, DType.FLOAT16: 1, DType.INT32: 2, DType.UINT8: 3, DType.INT64: 4, DType.STRING: 5, DType.BOOL: 6,
    DType.INT16: 7, DType.INT8: 9, DType.FLOAT64: 10, DType.UINT64: 12, DType.UINT32: 15, DType.UINT16: 16,
}  # fmt: skip
COMPLEX64 = 8
ADD, MUL, RESHAPE, CUSTOM, GATHER, LESS, WHILE = 0, 18, 22, 32, 36, 58, 119
OPTIONS_ADD, OPTIONS_MUL, OPTIONS_RESHAPE, OPTIONS_WHILE = 11, 21, 17, 93


@dataclass(frozen=True)
class T:
    """A tensor. A -1 in `shape` is a dimension of any size; `data` makes it a constant."""

    name: str
    dtype: DType | int = DType.FLOAT32
    shape: Sequence[int] = (1,)
    data: Array | None = None
    scales: Sequence[float] = ()
    zero_points: Sequence[int] = ()


@dataclass(frozen=True)
class Op:
    """An operator; tensors by their index. `custom` names one that is not built in."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    custom: str = ""
    options: tuple[int, Table] | None = None


@dataclass(frozen=True)
class Graph:
    tensors: Sequence[T]
    inputs: Sequence[int]
    outputs: Sequence[int]
    ops: Sequence[Op] = ()


@dataclass(frozen=True)
class Sig:
    """A SignatureDef: names to tensor indices of one subgraph."""

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    key: str = "serving_default"
    graph: int = 0


@dataclass
class _Buffers:
    """Buffer 0 is the empty one, as the schema wants."""

    tables: list[Table] = field(default_factory=lambda: [Table([])])

    def add(self, data: Array | None) -> int:
        if data is None:
            return 0
        self.tables.append(Table([Vector("B", data.tobytes(), align=16)]))
        return len(self.tables) - 1


def make(graphs: Sequence[Graph], signatures: Sequence[Sig] = (), *, version: int = 3) -> bytes:
    """The bytes of a .tflite file."""
    buffers = _Buffers()
    codes = sorted({(op.code, op.custom) for graph in graphs for op in graph.ops})
    tables = [_graph(graph, codes, buffers) for graph in graphs]
    root = Table(
        [
            Scalar("I", version),
            [
                Table([Scalar("b", min(code, 127)), name or None, Scalar("i", 1), Scalar("i", code)])
                for code, name in codes
            ],
            tables,
            "made by a test",
            buffers.tables,
            None,
            None,
            [_signature(one) for one in signatures],
        ]
    )
    return serialize(root)


def _graph(graph: Graph, codes: Sequence[tuple[int, str]], buffers: _Buffers) -> Table:
    return Table(
        [
            [_tensor(tensor, buffers) for tensor in graph.tensors],
            Vector("i", list(graph.inputs)),
            Vector("i", list(graph.outputs)),
            [_operator(op, codes) for op in graph.ops],
            "main",
        ]
    )


def _tensor(tensor: T, buffers: _Buffers) -> Table:
    kind = TYPES[tensor.dtype] if isinstance(tensor.dtype, DType) else tensor.dtype
    quantization = None
    if tensor.scales:
        quantization = Table([None, None, Vector("f", list(tensor.scales)), Vector("q", list(tensor.zero_points))])
    dynamic = Vector("i", list(tensor.shape)) if -1 in tensor.shape else None
    return Table(
        [
            Vector("i", [abs(size) for size in tensor.shape]),
            Scalar("b", kind),
            Scalar("I", buffers.add(tensor.data)),
            tensor.name,
            quantization,
            None,
            None,
            dynamic,
        ]
    )


def _operator(op: Op, codes: Sequence[tuple[int, str]]) -> Table:
    kind, options = op.options or (0, None)
    return Table(
        [
            Scalar("I", codes.index((op.code, op.custom))),
            Vector("i", list(op.inputs)),
            Vector("i", list(op.outputs)),
            Scalar("B", kind),
            options,
        ]
    )


def _signature(one: Sig) -> Table:
    def maps(names: Mapping[str, int]) -> list[Table]:
        return [Table([name, Scalar("I", index)]) for name, index in names.items()]

    return Table([maps(one.inputs), maps(one.outputs), one.key, None, Scalar("I", one.graph)])


def constant(name: str, values: Sequence[float], dtype: DType = DType.FLOAT32) -> T:
    return T(name, dtype, (len(values),), np.asarray(values, dtype.numpy))


def times(inputs: int, output: int, factor: int) -> Op:
    return Op(MUL, (inputs, factor), (output,), options=(OPTIONS_MUL, Table([Scalar("b", 0)])))


def scaling(factor: float, shape: Sequence[int] = (-1,), *, signatures: Sequence[Sig] | None = None) -> bytes:
    """`x` float32 → `y` = factor * x."""
    graph = Graph([T("x", shape=shape), constant("factor", [factor]), T("y", shape=shape)], [0], [2], [times(0, 2, 1)])
    return make([graph], [Sig({"x": 0}, {"y": 2})] if signatures is None else signatures)


def passing(dtype: DType, shape: Sequence[int] = (-1,)) -> bytes:
    """`x` → `y`, the same values flattened: works for every type, strings included."""
    flat = Op(RESHAPE, (0, 1), (2,), options=(OPTIONS_RESHAPE, Table([Vector("i", [-1])])))
    graph = Graph([T("x", dtype, shape), constant("all", [-1], DType.INT32), T("y", dtype, (-1,))], [0], [2], [flat])
    return make([graph], [Sig({"x": 0}, {"y": 2})])


def adding(shape: Sequence[int] = (-1,), second: Sequence[int] = (-1,)) -> bytes:
    """`a` + `b` → `sum`, float32: shapes that do not fit each other pass the signature and fail in the graph."""
    op = Op(ADD, (0, 1), (2,), options=(OPTIONS_ADD, Table([Scalar("b", 0)])))
    graph = Graph([T("a", shape=shape), T("b", shape=second), T("sum", shape=shape)], [0, 1], [2], [op])
    return make([graph], [Sig({"a": 0, "b": 1}, {"sum": 2})])


def custom(name: str, shape: Sequence[int] = (1, 4), *, dtype: DType = DType.UINT8) -> bytes:
    """One operator that no runtime knows."""
    graph = Graph([T("x", dtype, shape), T("y", dtype, shape)], [0], [1], [Op(CUSTOM, (0,), (1,), name)])
    return make([graph], [Sig({"x": 0}, {"y": 1})])


def looping(rounds: float = 1e18) -> bytes:
    """`x` float32 [1]: adds one until `x` reaches `rounds` (for ever: float32 stops growing at 2**24)."""
    options = (OPTIONS_WHILE, Table([Scalar("i", 1), Scalar("i", 2)]))
    main = Graph([T("x"), T("y")], [0], [1], [Op(WHILE, (0,), (1,), options=options)])
    bound = Graph([T("x"), constant("bound", [rounds]), T("more", DType.BOOL)], [0], [2], [Op(LESS, (0, 1), (2,))])
    plus = Op(ADD, (0, 1), (2,), options=(OPTIONS_ADD, Table([Scalar("b", 0)])))
    body = Graph([T("x"), constant("one", [1]), T("next")], [0], [2], [plus])
    return make([main, bound, body], [Sig({"x": 0}, {"y": 1})])


def picking(table: Sequence[float] = (10.0, 11.0, 12.0)) -> bytes:
    """`at` int32 [?] → `picked` float32 [?]: an index beyond the table passes the signature and fails in the run."""
    graph = Graph(
        [constant("table", table), T("at", DType.INT32, (-1,)), T("picked", shape=(-1,))],
        [1],
        [2],
        [Op(GATHER, (0, 1), (2,))],
    )
    return make([graph], [Sig({"at": 1}, {"picked": 2})])


def two_ways() -> bytes:
    """Two signatures, each a subgraph of its own: `double` and `triple`, `x` float32 [?] → `y`."""

    def graph(factor: float) -> Graph:
        return Graph(
            [T("x", shape=(-1,)), constant("factor", [factor]), T("y", shape=(-1,))], [0], [2], [times(0, 2, 1)]
        )

    return make([graph(2), graph(3)], [Sig({"x": 0}, {"y": 2}, "double", 0), Sig({"x": 0}, {"y": 2}, "triple", 1)])
