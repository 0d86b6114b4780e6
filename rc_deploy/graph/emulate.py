"""A graph in types that ONNX Runtime's CPU kernels lack, as one that they run, with the same roundings.

ONNX Runtime has no bfloat16 convolution on the CPU. Hardware multiplies bfloat16 exactly, accumulates in float32 and
rounds the result. So does this form: each tensor of type bfloat16 holds the same values in float32, and

    Y = Op(X, ...) in bfloat16   ->   Y = float32(bfloat16(Op(X, ...)))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from rc_deploy.graph.narrow import NUMPY
from rc_deploy.graph.types import types, with_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

_KIND = TensorProto.BFLOAT16


def emulated(model: ModelProto, rounding: bool = True) -> ModelProto:
    """Return a model in which float32 stands for bfloat16; other models are returned as they are.

    Args:
        model: of any precision.
        rounding: round results to bfloat16; without, they are float32's.
    """
    if _KIND not in types(model).values():
        return model
    result = onnx.ModelProto()
    result.CopyFrom(with_types(model))
    narrow = {tensor for tensor, kind in types(result).items() if kind == _KIND}
    for tensor in result.graph.initializer:
        if tensor.data_type == _KIND:
            values = onnx.numpy_helper.to_array(tensor).view(NUMPY[_KIND]).astype("float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    nodes = [made for node in result.graph.node for made in _widened(node, narrow, rounding)]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    for value in result.graph.value_info:
        if value.name in narrow:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return result


def _widened(node: NodeProto, narrow: set[str], rounding: bool) -> Iterator[NodeProto]:
    """Yield a node that computes in float32, and the casts that round its results."""
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    for attribute in copy.attribute:
        if attribute.name == "to" and attribute.i == _KIND:
            attribute.i = TensorProto.FLOAT
    rounded = [name for name in node.output if rounding and name in narrow]
    copy.output[:] = [f"{name}_exact" if name in rounded else name for name in node.output]
    yield copy
    for name in rounded:
        yield onnx.helper.make_node("Cast", [f"{name}_exact"], [f"{name}_rounded"], to=_KIND)
        yield onnx.helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT)
