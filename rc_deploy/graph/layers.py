"""The layers of a graph: what a narrower type can take over, and what stays float32 whatever the graph's precision.

A layer is a convolution or a matrix product with a constant weight. The nodes that predict the statistics of response
calibration (pooling, squeezing layer, heads) are none: their accumulations are float32 by contract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from rc_deploy.errors import InputError
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.graph.types import shapes
from rc_deploy.schema import CALIBRATED_RESIDUAL, DOMAIN, RESPONSE_CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import ModelProto, NodeProto

# Operators that do the arithmetic, in the graph's precision.
COMPUTE = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
POOLING = {"AveragePool", "GlobalAveragePool", "ReduceMean"}
# Names in an error message; `rc-deploy inspect` has them all.
MOST_NAMES = 40


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with a constant weight.

    Attributes:
        node: its name in the graph.
        module: of PyTorch, that its weight belongs to, or that it came from.
        operator: of `COMPUTE`.
        data: name of the tensor that it is fed.
        weight: name of its weight.
        channels: axis of the weight that counts output channels.
        macs: products and sums for one image.
        parameters: values of its weight.
    """

    node: str
    module: str
    operator: str
    data: str
    weight: str
    channels: int
    macs: int
    parameters: int


def layers(model: ModelProto) -> list[Layer]:
    """Return the layers of the main graph, in order.

    Args:
        model: of any precision, whose shapes are known or can be inferred.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    # A quantised weight is constant as well.
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    sizes = shapes(model)
    excluded = statistics(model)
    return [
        _layer(node, weights[node.input[1]], sizes)
        for node in model.graph.node
        if node.op_type in COMPUTE and node.input[1] in weights and node.name not in excluded
    ]


def _layer(node: NodeProto, weight: Sequence[int], sizes: dict[str, list[int]]) -> Layer:
    # Positions of the result at which the whole weight is applied; the batch and what is unknown count once.
    result = [max(size, 1) for size in sizes.get(node.output[0], [])][1:]
    convolution = node.op_type in ("Conv", "ConvTranspose")
    positions = math.prod(result[1:] if convolution else result[:-1])
    return Layer(
        node=node.name,
        module=module_of(node),
        operator=node.op_type,
        data=node.input[0],
        weight=node.input[1],
        channels=_channel_axis(node),
        macs=math.prod(weight) * positions,
        parameters=math.prod(weight),
    )


def _channel_axis(node: NodeProto) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    if node.op_type == "Conv" or (node.op_type == "Gemm" and transposed):
        return 0
    return 1


def module_of(node: NodeProto) -> str:
    """Return the PyTorch module of a node: that of its weight, else the one that export noted down."""
    if node.op_type in COMPUTE and node.input[1].endswith(".weight"):
        return str(node.input[1]).removesuffix(".weight")
    return next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), "")


def statistics(model: ModelProto) -> frozenset[str]:
    """Return the names of the nodes that predict the statistics of response calibration.

    These are the nodes from its inputs Mu and LogVar back to the pooling, included.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    calibrated = (RESPONSE_CALIBRATION.name, CALIBRATED_RESIDUAL.name)
    waiting = [
        name
        for node in model.graph.node
        if node.domain == DOMAIN and node.op_type in calibrated
        for name in node.input[1:3]
    ]
    found: set[str] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found or node.op_type == "Conv":
            continue
        found.add(node.name)
        if node.op_type not in POOLING:
            waiting.extend(node.input)
    return frozenset(found)


def matching(model: ModelProto, patterns: Iterable[str]) -> frozenset[str]:
    """Return the names of the nodes that the patterns name, by node or by PyTorch module.

    Args:
        model: to look in.
        patterns: as of `fnmatch`, e.g. "stages.0.*" or "node_Conv_1*"; case counts.

    Raises:
        InputError: a pattern that matches nothing; the message lists what there is.
    """
    known = {node.name: module_of(node) for node in model.graph.node}
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name, module in known.items() if fnmatchcase(name, pattern) or fnmatchcase(module, pattern)}
        if not matched:
            names = [layer.module or layer.node for layer in layers(model)]
            listed = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
            raise InputError(
                f"--keep-fp32 '{pattern}' matches no node and no module of the network.",
                f"Its layers are {listed}. Write the name of one, or a pattern such as 'stages.0.*'.",
            )
        found |= matched
    return frozenset(found)
