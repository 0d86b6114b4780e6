"""What a graph shall hold once it is typed, by number and bytes: decided before the conversion, to hold it against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.graph.layers import COMPUTE, layers, statistics
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto

# Bytes of one weight.
WIDTH = {Precision.FP32: 4, Precision.FP16: 2, Precision.BF16: 2, Precision.INT8: 1, Precision.FP8: 1}


@dataclass(frozen=True)
class Plan:
    """Convolutions and matrix products of a graph.

    Attributes:
        narrow: how many shall compute in the precision asked for.
        wide: how many in float32.
        narrow_bytes: of the former's weights.
        wide_bytes: of the latter's.
    """

    narrow: int
    wide: int
    narrow_bytes: int
    wide_bytes: int


def planned(model: ModelProto, precision: Precision, kept: Collection[str]) -> Plan:
    """Return what becomes of a float32 model.

    Args:
        model: to be converted.
        precision: to which.
        kept: names of nodes that stay float32.
    """
    computing = [node for node in model.graph.node if node.op_type in COMPUTE]
    if precision is Precision.FP32:
        narrow = {node.name for node in computing}
    elif precision.quantised:
        narrow = {layer.node for layer in layers(model)} - set(kept)
    else:
        narrow = {node.name for node in computing} - statistics(model) - set(kept)
    # Bodies compute in float32: that of a fused tail holds products of its own.
    products = {function.name: sum(node.op_type in COMPUTE for node in function.node) for function in model.functions}
    in_bodies = sum(products.get(node.op_type, 0) for node in model.graph.node)
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    counts = {True: 0, False: 0}
    for node in computing:
        counts[node.name in narrow] += sizes.get(node.input[1], 0)
    wide = len(computing) - len(narrow) + in_bodies
    return Plan(len(narrow), wide, counts[True] * WIDTH[precision], counts[False] * 4)
