"""Whether a run may leave something behind that still looks at its inputs: a variable that was assigned one, a queue.

An input lies in memory that the next request overwrites. A graph without state lets go of it when the run is over; of
any other a copy is made. Rule: what is not known to be harmless is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

HARMLESS = frozenset(
    {
        "VarHandleOp", "VariableV2", "Variable", "VarIsInitializedOp", "ReadVariableOp", "ResourceGather", "ResourceGatherNd",
        "HashTableV2", "MutableHashTableV2", "LookupTableFindV2", "LookupTableFind", "LookupTableSizeV2", "HashTable",
        "PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile", "Case",
        "Placeholder", "PlaceholderWithDefault", "Assert", "NoOp", "VarHandle", "XlaLaunch",
        "RandomUniform", "RandomStandardNormal", "RandomUniformInt", "TruncatedNormal", "Multinomial", "ParameterizedTruncatedNormal",
        "TensorArrayV3", "TensorArrayReadV3", "TensorArrayWriteV3", "TensorArrayGatherV3", "TensorArrayScatterV3",
        "TensorArraySizeV3", "TensorArrayConcatV3", "TensorArrayCloseV3", "TensorArraySplitV3",
    }
)  # fmt: skip
"""Operators with state that keep nothing of what they are given beyond the run."""


def keeps_inputs(graph: Any, fetched: Iterable[str]) -> bool:
    """`graph`: a GraphDef; `fetched`: names of tensors."""
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    kinds: set[str] = set()
    seen: set[str] = set()
    waiting = [tensor.split(":")[0] for tensor in fetched]
    called: list[str] = []
    while waiting:
        node = nodes.get(name := waiting.pop())
        if node is None or name in seen:
            continue
        seen.add(name)
        kinds.add(node.op)
        called += _called(node, functions)
        waiting += [each.lstrip("^").split(":")[0] for each in node.input]
    known: set[str] = set()
    while called:
        if (name := called.pop()) in known:
            continue
        known.add(name)
        for node in functions[name].node_def:
            kinds.add(node.op)
            called += _called(node, functions)
    return any(_has_state(kind) for kind in kinds - HARMLESS - functions.keys())


def _called(node: Any, functions: Any) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            if function.name in functions:
                yield function.name


def _has_state(kind: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(kind)
    return definition is None or definition.is_stateful or any(each.is_ref for each in definition.input_arg)
