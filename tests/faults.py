"""Faults planted into exported graphs, for the tests of what must find them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from rc_deploy.graph import bodies
from rc_deploy.graph.from_torch import MODULE_KEY


def node_of(model: onnx.ModelProto, module: str, op_type: str) -> NodeProto:
    """Return the node that a module of this path left in the graph."""
    found: NodeProto = next(
        node
        for node in model.graph.node
        for entry in node.metadata_props
        if (entry.key, entry.value, node.op_type) == (MODULE_KEY, module, op_type)
    )
    return found


def scale_weight(model: onnx.ModelProto, module: str, op_type: str, factor: float) -> None:
    """Multiply the weight of a convolution or Linear."""
    name = node_of(model, module, op_type).input[1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), name))


def wrong_sign(model: onnx.ModelProto, operator: str) -> None:
    """Subtract the calibration in the body of an operator, in place of adding it."""
    function = next(function for function in model.functions if function.name == operator)
    node = next(node for node in function.node if node.op_type == "Add" and "calibration" in node.input)
    node.op_type = "Sub"


def loosen_epsilon(model: onnx.ModelProto, position: int) -> None:
    """Give one calibrating node, counted from the input, an epsilon of 1e-2."""
    calibrating = [node for node in bodies.rc_nodes(model) if any(item.name == "epsilon" for item in node.attribute)]
    next(item for item in calibrating[position].attribute if item.name == "epsilon").f = np.float32(1e-2)
