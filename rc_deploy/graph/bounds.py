"""What a graph from a stranger may ask of a machine: no other file, no endless work, no memory beyond reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from rc_deploy.decode import clean
from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

# Values of one tensor, for one image: 4 GiB of float32.
LARGEST_TENSOR = 2**30
# They run as often as their inputs say, which no reading of the graph can bound.
_LOOPS = {"Loop", "Scan"}
# The sizes of their outputs are in the values of their inputs; inside a function no shape inference shows them.
_SIZED_BY_VALUE = {"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}


def require_own_weights(model: ModelProto, name: str) -> None:
    """Refuse weights in other files: the SHA-256 by which artefacts are known would not cover them.

    Raises:
        InputError: there are some.
    """
    outside = {
        entry.value
        for tensor in tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if outside or any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors(model)):
        first = clean(min(outside, default="one without a name"))
        raise InputError(
            f"{name} keeps weights in {len(outside)} other files, the first being {first}.",
            f"Put them into one file: python -c \"import onnx; onnx.save(onnx.load('{name}'), 'one.onnx')\"",
        )


def require_finite_calls(model: ModelProto, name: str) -> None:
    """Require that no function calls itself, directly or through others: it would be expanded without end.

    Raises:
        InputError: one does.
    """
    functions = {_key(function): function for function in model.functions}
    calls = {key: {_key(node) for node in nodes(function)} & functions.keys() for key, function in functions.items()}
    while calls:
        if not (finished := {key for key, called in calls.items() if not called & calls.keys()}):
            domain, function, _ = min(calls)
            raise InputError(
                f"{name} is not a valid ONNX model: its function {domain}.{function} calls itself.",
                "Export or copy it again.",
            )
        calls = {key: called for key, called in calls.items() if key not in finished}


def require_bounded(model: ModelProto, name: str) -> None:
    """Require that one run of the graph ends, and that no tensor in it is vast.

    Raises:
        InputError: it holds loops, or a tensor of more than `LARGEST_TENSOR` values for one image.
    """
    used = {node.op_type for node in nodes(model.graph)}
    inner = {node.op_type for function in model.functions for node in nodes(function)}
    if found := sorted((used | inner) & _LOOPS | inner & _SIZED_BY_VALUE):
        where = "loops, which may never end" if set(found) & _LOOPS else "tensors sized by values, in a function"
        raise InputError(
            f"{name} uses {', '.join(found)}: {where}.",
            "Networks are classifiers without loops over data: export yours with `rc-deploy export`.",
        )
    for tensor, dims in _shapes(model):
        if math.prod(max(size, 1) for size in dims) > LARGEST_TENSOR:
            raise InputError(
                f"{name} has a tensor of shape {tuple(dims)}, {tensor!r:.60}, which would exhaust the memory.",
                f"No tensor may hold more than {LARGEST_TENSOR:,} values for one image.",
            )


def _shapes(model: ModelProto) -> Iterator[tuple[str, list[int]]]:
    """Yield name and sizes of every tensor of the main graph; 0 stands for a symbolic size."""
    graph = model.graph
    known = {value.name for value in (*graph.value_info, *graph.output)}
    if not all(name in known for node in graph.node for name in node.output):
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that is written in the file: weights, and those in attributes, subgraphs and functions."""
    graphs = [model.graph, *(graph for holder in (model.graph, *model.functions) for graph in _subgraphs(holder))]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for holder in (model.graph, *model.functions):
        for node in nodes(holder):
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def nodes(holder: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph or function, and of the graphs inside them."""
    yield from holder.node
    for graph in _subgraphs(holder):
        yield from graph.node


def _subgraphs(holder: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    waiting = [holder]
    while waiting:
        for node in waiting.pop().node:
            for attribute in node.attribute:
                graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                yield from graphs
                waiting.extend(graphs)


def _key(called: FunctionProto | NodeProto) -> tuple[str, str, str]:
    if hasattr(called, "op_type"):
        return called.domain, called.op_type, called.overload
    return called.domain, called.name, called.overload
