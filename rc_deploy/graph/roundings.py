"""Reading off a graph where its arithmetic rounds, for `rc_deploy.tolerances`: for references that are ONNX files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from rc_deploy.errors import InputError
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN, GCLU, RESPONSE_CALIBRATION
from rc_deploy.tolerances import (
    GCLU_ARITHMETIC,
    LAYER_NORM_ARITHMETIC,
    RC_ARITHMETIC,
    SOFTMAX_ARITHMETIC,
    Rounding,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Operators that only move or select values: they do not round.
EXACT = {
    "Abs", "Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherND", "Identity",
    "Max", "MaxPool", "Min", "Neg", "Relu", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
POOLING = {"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"}
_ARITHMETIC = {
    GCLU.name: GCLU_ARITHMETIC,
    RESPONSE_CALIBRATION.name: RC_ARITHMETIC,
    # One more for the sum with the shortcut.
    CALIBRATED_RESIDUAL.name: RC_ARITHMETIC + 1,
    CALIBRATED_TAIL.name: RC_ARITHMETIC + 1,
}


def roundings(model: ModelProto) -> list[Rounding]:
    """Return the roundings of every node of the model's main graph that its outputs depend on.

    Args:
        model: a float32 model whose shapes can be inferred.

    Raises:
        InputError: a shape that is needed cannot be inferred.
    """
    # Data propagation: PyTorch's exporter computes the shapes within attention from those of its operands.
    inferred = onnx_ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    RemoveUnusedNodesPass()(inferred)
    graph = onnx_ir.to_proto(inferred).graph
    shapes = _shapes(graph)
    return [_rounding(node, shapes) for node in graph.node if node.op_type not in EXACT]


def roundings_up_to(model: ModelProto) -> dict[str, list[Rounding]]:
    """Return, by tensor, the roundings of every node of the model's main graph that it depends on.

    Args:
        model: as of `roundings`.

    Raises:
        InputError: a shape that is needed cannot be inferred.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    found: list[Rounding] = []
    behind: dict[str, int] = {}  # by tensor, a bit for each of `found`
    for node in graph.node:
        bits = 0
        for name in node.input:
            bits |= behind.get(name, 0)
        if node.op_type not in EXACT:
            bits |= 1 << len(found)
            found.append(_rounding(node, shapes))
        behind |= dict.fromkeys(node.output, bits)
    return {
        tensor: [rounding for index, rounding in enumerate(found) if bits >> index & 1]
        for tensor, bits in behind.items()
    }


def _rounding(node: NodeProto, shapes: dict[str, list[int]]) -> Rounding:
    if node.op_type == CALIBRATED_TAIL.name:
        # The mean over positions, the squeezing layer and the two heads; the weights of these three are stored.
        hidden, channels = _known(shapes, node.input[2])
        sums = math.prod(_known(shapes, node.input[0])[2:]) + channels + 2 * hidden
        return Rounding(sums, _ARITHMETIC[node.op_type], stores=4)
    if node.domain == DOMAIN:
        return Rounding(arithmetic=_ARITHMETIC[node.op_type], stores=1)
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        return Rounding(reduction=_reduction(node, shapes), stores=2)
    if node.op_type in POOLING:
        return Rounding(reduction=_pooled(node, shapes), stores=1)
    if node.op_type == "LayerNormalization":
        return Rounding(2 * math.prod(shapes[node.input[1]]), LAYER_NORM_ARITHMETIC, stores=1)
    if node.op_type == "Softmax":
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        return Rounding(_known(shapes, node.input[0])[axis], SOFTMAX_ARITHMETIC, stores=1)
    return Rounding(arithmetic=1, stores=1)


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


def _shapes(graph: GraphProto) -> dict[str, list[int]]:
    """Return the shape of every tensor of the graph, by name; 0 stands for a symbolic size."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return shapes
