"""Reading off a graph where its arithmetic rounds, for `rc_deploy.tolerances`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from rc_deploy.errors import InputError
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN, GCLU, RESPONSE_CALIBRATION
from rc_deploy.tolerances import GCLU_ARITHMETIC, RC_ARITHMETIC, Rounding

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

# Operators that only move or select values: they do not round.
EXACT = {
    "Abs", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Max", "MaxPool",
    "Min", "Neg", "Relu", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
POOLING = {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"}
_ARITHMETIC = {
    GCLU.name: GCLU_ARITHMETIC,
    RESPONSE_CALIBRATION.name: RC_ARITHMETIC,
    # One more for the sum with the shortcut.
    CALIBRATED_RESIDUAL.name: RC_ARITHMETIC + 1,
    CALIBRATED_TAIL.name: RC_ARITHMETIC + 1,
}
_DTYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def roundings(model: ModelProto) -> list[Rounding]:
    """Return the roundings of every node of the model's main graph that rounds; shapes must be inferable."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes, dtypes = _tensors(graph)
    found = [_rounding(node, shapes, dtypes) for node in graph.node if node.op_type not in EXACT]
    return [rounding for rounding in found if rounding.variance() > 0]


def _rounding(node: NodeProto, shapes: dict[str, list[int]], dtypes: dict[str, str]) -> Rounding:
    dtype = dtypes.get(node.output[0], "float32")
    # In a float32 graph the arithmetic below already counts the rounding of the result.
    narrow = dtype != "float32"
    if node.op_type == CALIBRATED_TAIL.name:
        # The mean over positions, the squeezing layer and the two heads; the weights of these three are stored.
        hidden, channels = _known(shapes, node.input[2])
        sums = math.prod(_known(shapes, node.input[0])[2:]) + channels + 2 * hidden
        return Rounding(sums, _ARITHMETIC[node.op_type], stores=4 * narrow, dtype=dtype)
    if node.domain == DOMAIN:
        return Rounding(arithmetic=_ARITHMETIC[node.op_type], stores=int(narrow), dtype=dtype)
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        return Rounding(reduction=_reduction(node, shapes), stores=2 * narrow, dtype=dtype)
    if node.op_type in POOLING:
        return Rounding(reduction=_pooled(node, shapes), stores=int(narrow), dtype=dtype)
    return Rounding(arithmetic=int(node.op_type != "Cast"), stores=int(narrow), dtype=dtype)


def _reduction(node: NodeProto, shapes: dict[str, list[int]]) -> int:
    """Return the number of products in one output of a Conv, Gemm or MatMul; the weight is its second input."""
    weight = _known(shapes, node.input[1])
    if node.op_type == "Conv":
        return math.prod(weight[1:])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return weight[-1] if transposed else weight[-2]


def _pooled(node: NodeProto, shapes: dict[str, list[int]]) -> int:
    """Return how many values one output of a pooling operator averages."""
    before, after = (math.prod(_known(shapes, name)[1:]) for name in (node.input[0], node.output[0]))
    if node.op_type == "AveragePool":
        return math.prod(next(attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"))
    return before // max(after, 1)


def _known(shapes: dict[str, list[int]], name: str) -> list[int]:
    if len(shapes.get(name, ())) < 2:
        raise InputError(
            f"The shape of tensor '{name}' cannot be inferred, so no tolerance can be derived.",
            "Export the network with `rc-deploy export`, whose graphs state every shape.",
        )
    return shapes[name]


def _tensors(graph: GraphProto) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Return shape (0 for a symbolic size) and type of every tensor of the graph, by name."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    dtypes = {tensor.name: _DTYPES.get(tensor.data_type, "float32") for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = _shape(value)
        dtypes[value.name] = _DTYPES.get(value.type.tensor_type.elem_type, "float32")
    return shapes, dtypes


def _shape(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
