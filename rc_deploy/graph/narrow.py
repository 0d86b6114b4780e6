"""Conversion of a float32 graph to 16-bit floating point, float16 or bfloat16.

Every node but those that are kept computes in the narrow type; a Cast stands where one kind of node feeds the other.
In- and outputs stay float32, and the bodies of `rc` operators are left alone: they are generic in the tensors' type
and compute in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from rc_deploy.errors import InputError
from rc_deploy.graph.opset import raise_opset
from rc_deploy.graph.types import copied, types

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto, NodeProto

NUMPY: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}
# The first opset whose convolutions take the type.
_OPSET: dict[int, int] = {TensorProto.FLOAT16: 18, TensorProto.BFLOAT16: 22}
# Operators with inputs that are float32 whatever the others are.
_FLOAT32_ONLY = {"DequantizeLinear", "NonMaxSuppression", "QuantizeLinear", "Range", "Resize"}


def narrowed(model: ModelProto, kind: int, kept: Collection[str], name: str) -> ModelProto:
    """Return `model` with weights and activations in a 16-bit type.

    Args:
        model: float32, its nodes in topological order.
        kind: TensorProto.FLOAT16 or BFLOAT16.
        kept: names of nodes that stay float32.
        name: of the file it came from, for messages.

    Raises:
        InputError: a weight is beyond the type, the graph has control flow, or its opset cannot be raised.
    """
    result = copied(model)
    raise_opset(result, _OPSET[kind], name)
    _require_straight(result, name)
    floats = {tensor for tensor, number in types(result).items() if number == TensorProto.FLOAT}
    wide = {node.name for node in result.graph.node if node.name in kept or node.op_type in _FLOAT32_ONLY}
    forms = _Forms(kind, {value.name for value in result.graph.output})
    _convert_weights(result, forms, floats, wide, name)
    for value in result.graph.input:
        forms.made(value.name, TensorProto.FLOAT)
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        own = TensorProto.FLOAT if node.name in wide else kind
        for index, tensor in enumerate(node.input):
            if tensor in floats:
                node.input[index] = forms.wanted(tensor, own, nodes)
        for index, tensor in enumerate(node.output):
            if tensor in floats:
                node.output[index] = forms.made(tensor, own)
        if own == kind:
            _convert_attributes(node, kind, name)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    for value in result.graph.output:
        if value.name in floats:
            forms.wanted(value.name, TensorProto.FLOAT, nodes)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    _state_types(result, forms, kind)
    return result


def _state_types(model: ModelProto, forms: _Forms, kind: int) -> None:
    """Write down the types of what is narrow now, and type and shape of what casts make."""
    stated = {value.name: value for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    for value in model.graph.value_info:
        if forms.names.get((value.name, kind)) == value.name:
            value.type.tensor_type.elem_type = kind
    for (tensor, number), name in forms.names.items():
        if name not in stated and tensor in stated:
            added = model.graph.value_info.add()
            added.CopyFrom(stated[tensor])
            added.name = name
            added.type.tensor_type.elem_type = number


class _Forms:
    """Under which names a float tensor is there, by type: as its producer made it, and as casts do.

    Args:
        kind: the narrow type.
        outputs: names of the graph's outputs, which belong to their float32 forms.
    """

    def __init__(self, kind: int, outputs: set[str]) -> None:
        self._kind, self._outputs = kind, outputs
        self.names: dict[tuple[str, int], str] = {}

    def made(self, tensor: str, kind: int) -> str:
        """Note that a tensor is made in a type; return the name of that form."""
        keeps_name = kind == TensorProto.FLOAT or tensor not in self._outputs
        self.names[tensor, kind] = tensor if keeps_name else suffixed(tensor, kind)
        return self.names[tensor, kind]

    def wanted(self, tensor: str, kind: int, nodes: list[NodeProto]) -> str:
        """Return the name of a tensor in a type, appending the cast that makes it if need be."""
        if (tensor, kind) not in self.names:
            other = self._kind if kind == TensorProto.FLOAT else TensorProto.FLOAT
            taken = tensor in self.names.values()
            self.names[tensor, kind] = suffixed(tensor, kind) if taken else tensor
            source, target = self.names[tensor, other], self.names[tensor, kind]
            nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind))
        return self.names[tensor, kind]


def suffixed(tensor: str, kind: int) -> str:
    """Return the name of a tensor in another type than that of its own name."""
    return f"{tensor}_{TensorProto.DataType.Name(kind).lower()}"


def _convert_weights(model: ModelProto, forms: _Forms, floats: set[str], wide: set[str], name: str) -> None:
    """Round the weights that narrow nodes use; those that others use as well are there in both types."""
    used = {
        (tensor, TensorProto.FLOAT if node.name in wide else forms._kind)
        for node in model.graph.node
        for tensor in node.input
    }
    for tensor in list(model.graph.initializer):
        if tensor.name not in floats:
            continue
        forms.names[tensor.name, TensorProto.FLOAT] = tensor.name
        if (tensor.name, forms._kind) not in used:
            continue
        both = (tensor.name, TensorProto.FLOAT) in used
        forms.names[tensor.name, forms._kind] = suffixed(tensor.name, forms._kind) if both else tensor.name
        rounded = _rounded(tensor, forms._kind, name)
        rounded.name = forms.names[tensor.name, forms._kind]
        (model.graph.initializer.add() if both else tensor).CopyFrom(rounded)


def _rounded(tensor: TensorProto, kind: int, name: str) -> TensorProto:
    """Return a weight in a 16-bit type. Raises InputError where it holds values that the type does not."""
    values = onnx.numpy_helper.to_array(tensor)
    reached = max(values.max(initial=0), -values.min(initial=0))  # NaN and infinity come through
    if not np.isfinite(reached):
        raise InputError(f"The weight {tensor.name} of {name} holds values that are no numbers.", "Train it again.")
    largest = float(ml_dtypes.finfo(NUMPY[kind]).max)  # type: ignore[no-untyped-call]
    if reached > largest:
        raise InputError(
            f"The weight {tensor.name} of {name} reaches {reached:.3g}; "
            f"{TensorProto.DataType.Name(kind).lower()} ends at {largest:.5g}.",
            "Build with --fp32 or --bf16, or keep its layer: --keep-fp32 LAYER.",
        )
    content = values.astype(NUMPY[kind]).tobytes()
    return onnx.helper.make_tensor(tensor.name, kind, tensor.dims, content, raw=True)


def _convert_attributes(node: NodeProto, kind: int, name: str) -> None:
    """Convert the constants that a node holds, and the type that it casts to."""
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = kind
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_rounded(attribute.t, kind, name))


def _require_straight(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise InputError(
                f"Node '{node.name}' ({node.op_type}) of {name} is control flow, whose branches cannot be converted.",
                "Export a network without control flow that depends on the data.",
            )
