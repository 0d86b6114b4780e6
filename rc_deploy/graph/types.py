"""Types and shapes of the tensors of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from onnx import ModelProto

# Types narrower than float32 that hold rounded numbers: 16-bit and smaller floats, and what tensors are quantised to.
NARROW = {
    kind
    for name, kind in TensorProto.DataType.items()
    if name in ("FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16")
    or name.startswith(("FLOAT4", "FLOAT6E", "FLOAT8", "INT4", "UINT4", "INT2", "UINT2"))
}


def with_types(model: ModelProto) -> ModelProto:
    """Return the model with the type of every tensor written down: itself, where `rc-deploy export` did that."""
    return model if _has_all_types(model) else onnx.shape_inference.infer_shapes(model)


def types(model: ModelProto) -> dict[str, int]:
    """Return the type of every tensor of the main graph by name."""
    graph = with_types(model).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def shapes(model: ModelProto) -> dict[str, list[int]]:
    """Return the shape of every tensor of the main graph by name; 0 stands for a symbolic size."""
    graph = with_types(model).graph
    found = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return found | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def copied(model: ModelProto) -> ModelProto:
    """Return a model of its own that may be changed, with all types."""
    typed = with_types(model)
    if typed is not model:
        return typed
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _has_all_types(model: ModelProto) -> bool:
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    return all(name in known for node in model.graph.node for name in node.output)
