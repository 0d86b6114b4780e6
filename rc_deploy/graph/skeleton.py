"""Taking a narrow graph apart: what it computes without its narrow types, and which numbers these hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from rc_deploy.graph.emulate import emulated
from rc_deploy.graph.narrow import NUMPY, suffixed
from rc_deploy.graph.quantise import FP8, INT8, LARGEST, dequantised

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

_STORED = {**NUMPY, INT8: np.int8, FP8: ml_dtypes.float8_e4m3fn}


@dataclass(frozen=True)
class Quantiser:
    """A pair of QuantizeLinear and DequantizeLinear, or of a quantised weight and its DequantizeLinear.

    Attributes:
        tensor: that is quantised.
        largest: magnitude that it represents; of each channel of a weight.
        sound: both halves have the same scale, and zero points of 0.
    """

    tensor: str
    largest: NDArray[np.float32]
    sound: bool


def quantisers(model: ModelProto) -> list[Quantiser]:
    """Return the quantisers of activations, in the order of the graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        source = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None:
            continue
        scales = [_values(constants, end, 1) for end in (source, node)]
        zeros = [_values(constants, end, 2) for end in (source, node)]
        same = scales[0] is not None and scales[1] is not None and np.array_equal(scales[0], scales[1])
        sound = same and all(zero is None or not zero.astype(np.float32).any() for zero in zeros)
        kind = constants[node.input[2]].data_type if len(node.input) > 2 else INT8
        scale = np.zeros(1, np.float32) if scales[1] is None else scales[1]
        found.append(Quantiser(source.input[0], np.abs(scale) * np.float32(LARGEST.get(kind, np.nan)), bool(sound)))
    return found


def _values(constants: dict[str, TensorProto], node: NodeProto, index: int) -> NDArray[np.float32] | None:
    name = node.input[index] if len(node.input) > index else ""
    return unpacked(constants[name]) if name in constants else None


def unpacked(tensor: TensorProto) -> NDArray[np.float32]:
    """Return a tensor's values, of whatever type, in float32."""
    if tensor.data_type in _STORED and tensor.HasField("raw_data"):
        values = np.frombuffer(tensor.raw_data, _STORED[tensor.data_type]).reshape(tuple(tensor.dims))
    else:
        values = onnx.numpy_helper.to_array(tensor)
    return np.asarray(values, np.float32)


def narrow_weights(model: ModelProto) -> dict[str, tuple[int, NDArray[np.float32]]]:
    """Return the type and the values, dequantised, of each narrow weight, by the name of the float32 one."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {
        _plain(tensor.name): (tensor.data_type, unpacked(tensor))
        for tensor in model.graph.initializer
        if tensor.data_type in NUMPY
    }
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            stored = constants[node.input[0]]
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            others = [index for index in range(len(stored.dims)) if index != axis]
            scale, zero = _values(constants, node, 1), _values(constants, node, 2)
            values = unpacked(stored)
            if zero is not None:
                values = values - (np.expand_dims(zero, others) if zero.ndim else zero)
            if scale is not None:
                values = values * (np.expand_dims(scale, others) if scale.ndim else scale)
            found[node.output[0].removesuffix(dequantised(""))] = (stored.data_type, values)
    return found


def skeleton(model: ModelProto, reference: ModelProto) -> ModelProto:
    """Return what a narrow graph computes in float32 without its quantisers and with the reference's weights.

    Args:
        model: bfloat16, int8 or float8.
        reference: the float32 graph that it shall be made from.

    Raises:
        KeyError: a narrow weight is none of the reference's.
    """
    weights = {tensor.name: tensor for tensor in reference.graph.initializer}
    replaced = {name: weights[name] for name in narrow_weights(model)}
    result = onnx.ModelProto()
    result.CopyFrom(emulated(model, rounding=False))
    constants = {tensor.name for tensor in result.graph.initializer}
    instead: dict[str, str] = {}
    nodes = []
    for node in result.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            instead[node.output[0]] = node.output[0].removesuffix(dequantised(""))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            instead[node.output[0]] = instead.get(node.input[0], node.input[0])
        else:
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.input[:] = [instead.get(name, name) for name in node.input]
            nodes.append(copy)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    others = [tensor for tensor in result.graph.initializer if _plain(tensor.name) not in replaced]
    del result.graph.initializer[:]
    result.graph.initializer.extend(tensor for tensor in others if tensor.name in used)
    for name, tensor in replaced.items():
        for form in {name, suffixed(name, TensorProto.BFLOAT16)} & used:
            result.graph.initializer.add().CopyFrom(tensor)
            result.graph.initializer[-1].name = form
    return result


def _plain(name: str) -> str:
    return name.removesuffix(suffixed("", TensorProto.BFLOAT16)).removesuffix(suffixed("", TensorProto.FLOAT16))
