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
from rc_deploy.graph.types import types, with_types
from rc_deploy.graph.weights import without_weights

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
    model = with_types(model)
    floats = {tensor for tensor, number in types(model).items() if number == TensorProto.FLOAT}
    result = without_weights(model)
    raise_opset(result, _OPSET[kind], name)
    _require_straight(result, name)
    wide = {node.name for node in result.graph.node if node.name in kept or node.op_type in _FLOAT32_ONLY}
    forms = _Forms(kind, {value.name for value in result.graph.output})
    _convert_weights(model, result, forms, wide, name)
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
        self.kind, self._outputs = kind, outputs
        self.names: dict[tuple[str, int], str] = {}

    def made(self, tensor: str, kind: int) -> str:
        """Note that a tensor is made in a type; return the name of that form."""
        keeps_name = kind == TensorProto.FLOAT or tensor not in self._outputs
        self.names[tensor, kind] = tensor if keeps_name else suffixed(tensor, kind)
        return self.names[tensor, kind]

    def wanted(self, tensor: str, kind: int, nodes: list[NodeProto]) -> str:
        """Return the name of a tensor in a type, appending the cast that makes it if need be."""
        if (tensor, kind) not in self.names:
            other = self.kind if kind == TensorProto.FLOAT else TensorProto.FLOAT
            taken = tensor in self.names.values()
            self.names[tensor, kind] = suffixed(tensor, kind) if taken else tensor
            source, target = self.names[tensor, other], self.names[tensor, kind]
            nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind))
        return self.names[tensor, kind]


def suffixed(tensor: str, kind: int) -> str:
    """Return the name of a tensor in another type than that of its own name."""
    return f"{tensor}_{TensorProto.DataType.Name(kind).lower()}"


def _convert_weights(model: ModelProto, result: ModelProto, forms: _Forms, wide: set[str], name: str) -> None:
    """Add the weights, rounded where narrow nodes use them; those that others use as well are there in both types."""
    kind = forms.kind
    used = {
        (tensor, TensorProto.FLOAT if node.name in wide else kind)
        for node in result.graph.node
        for tensor in node.input
    }
    for tensor in model.graph.initializer:
        own = tensor.data_type == TensorProto.FLOAT
        narrow = own and (tensor.name, kind) in used
        both = narrow and (tensor.name, TensorProto.FLOAT) in used
        if own:
            forms.names[tensor.name, TensorProto.FLOAT] = tensor.name
        if not narrow or both:
            result.graph.initializer.append(tensor)
        if narrow:
            forms.names[tensor.name, kind] = suffixed(tensor.name, kind) if both else tensor.name
            _round(tensor, kind, name, result.graph.initializer.add())
            result.graph.initializer[-1].name = forms.names[tensor.name, kind]


def _round(tensor: TensorProto, kind: int, name: str, target: TensorProto) -> None:
    """Write a weight in a 16-bit type to `target`. Raises InputError where it holds values that the type does not."""
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
    target.name, target.data_type = tensor.name, kind
    target.dims.extend(tensor.dims)
    target.raw_data = values.astype(NUMPY[kind]).tobytes()


def _convert_attributes(node: NodeProto, kind: int, name: str) -> None:
    """Convert the constants that a node holds, and the type that it casts to."""
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = kind
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            rounded = TensorProto()
            _round(attribute.t, kind, name, rounded)
            attribute.t.CopyFrom(rounded)


def _require_straight(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise InputError(
                f"Node '{node.name}' ({node.op_type}) of {name} is control flow, whose branches cannot be converted.",
                "Export a network without control flow that depends on the data.",
            )
