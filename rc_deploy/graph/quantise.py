"""Quantisation: a float32 graph with QuantizeLinear/DequantizeLinear pairs around its layers.

For each layer that is not kept (X its data, W its weight):

    Layer(X, W, B)  ->  Layer(DQ(Q(X, s)), DQ(Wq, t), B),  Wq = Q(W, t)                                     (1)
    s = range(X) / largest,  one for X, which all of its layers share                                          (2)
    t = max |W| / largest,  one for each output channel                                                      (3)

Symmetric, with zero points of 0: TensorRT fuses nothing else. `largest` is 127 (int8) or 448 (float8 E4M3FN). Inputs of
`rc` operators, shortcuts and biases stay float32: calibration stands between a convolution and the sum with the
shortcut, so a pair there would let nothing fuse (ADR 11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from rc_deploy.errors import InputError
from rc_deploy.graph.layers import layers
from rc_deploy.graph.narrow import NUMPY
from rc_deploy.graph.opset import raise_opset
from rc_deploy.graph.types import copied

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.graph.layers import Layer

INT8, FP8 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN
# Largest value of each type; int8's -128 is left out, so that both signs have as many.
LARGEST: dict[int, float] = {INT8: 127.0, FP8: 448.0}
_NUMPY: dict[int, Any] = {INT8: np.int8, FP8: ml_dtypes.float8_e4m3fn}
# The first opset whose QuantizeLinear knows the type.
_OPSET: dict[int, int] = {INT8: 13, FP8: 19}
# ONNX Runtime and TensorRT take scales of float32: what is smaller is as good as 0.
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def quantised(
    model: ModelProto, kind: int, kept: Collection[str], ranges: Mapping[str, float], name: str
) -> ModelProto:
    """Return `model` with its layers quantised.

    Args:
        model: float32.
        kind: `INT8` or `FP8`.
        kept: names of nodes that stay float32.
        ranges: largest magnitude to represent, of every tensor that a layer is fed.
        name: of the file it came from, for messages.

    Raises:
        InputError: a weight is not finite, or the opset cannot be raised.
    """
    result = copied(model)
    raise_opset(result, _OPSET[kind], name)
    chosen = {layer.node: layer for layer in layers(result) if layer.node not in kept}
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in list(result.graph.node):
        if layer := chosen.get(node.name):
            for tensor in (layer.data, layer.weight):
                if tensor in done:
                    continue
                done.add(tensor)
                if tensor == layer.data:
                    nodes += _data_pair(result, layer.data, ranges[layer.data] / LARGEST[kind], kind)
                else:
                    nodes.append(_quantise_weight(result, layer, weights[layer.weight], kind, name))
            node.input[0], node.input[1] = dequantised(layer.data), dequantised(layer.weight)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    _drop_unused(result)
    return result


def channel_scales(weight: NDArray[np.float32], axis: int, kind: int) -> NDArray[np.float32]:
    """Return the scale of each output channel of a weight: its largest magnitude over the type's; 1 for zeros."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    scales = (np.abs(weight).max(axis=others) / LARGEST[kind]).astype(np.float32)
    return np.where(scales < _SMALLEST_SCALE, np.float32(1), scales)


def rounded(weight: NDArray[np.float32], scales: NDArray[np.float32], axis: int, kind: int) -> NDArray[Any]:
    """Return the weight in units of its scales, rounded to even, as the type holds it."""
    units = weight / np.expand_dims(scales, [index for index in range(weight.ndim) if index != axis])
    clipped = np.clip(units, -LARGEST[kind], LARGEST[kind])
    return np.asarray((np.rint(clipped) if kind == INT8 else clipped).astype(_NUMPY[kind]))


def fake_quantised(values: NDArray[np.float64], scale: NDArray[Any] | float, kind: int) -> NDArray[np.float64]:
    """Return float64 values as the type represents them at this scale, saturation included."""
    units = np.clip(values / scale, -LARGEST[kind], LARGEST[kind])
    return (np.rint(units) if kind == INT8 else units.astype(_NUMPY[kind]).astype(np.float64)) * scale


def step(values: NDArray[np.float64], kind: int, axis: int) -> NDArray[np.float64]:
    """Return the distance between neighbours of the type around each value of a weight.

    int8 has one for a channel, its scale. Around |v| in [2^e, 2^(e + 1)) a float type with m bits of mantissa has
    2^(e - m), and nowhere less than its smallest number; float8's values count in units of the channel's scale.
    """
    unit = np.ones((1,) * values.ndim)
    if kind in LARGEST:
        others = [index for index in range(values.ndim) if index != axis]
        unit = np.expand_dims(channel_scales(values.astype(np.float32), axis, kind).astype(np.float64), others)
    if kind == INT8:
        return np.broadcast_to(unit, values.shape)
    form: Any = ml_dtypes.finfo(_NUMPY[kind] if kind in _NUMPY else NUMPY[kind])  # type: ignore[no-untyped-call]
    exponent = np.frexp(values / unit)[1] - 1
    return np.asarray(unit * np.maximum(2.0 ** (exponent - form.nmant), float(form.smallest_subnormal)))


def quantised_name(tensor: str) -> str:
    """Return the name of a tensor's quantised form."""
    return f"{tensor}_quantised"


def dequantised(tensor: str) -> str:
    """Return the name of a tensor's dequantised form."""
    return f"{tensor}_dequantised"


def _data_pair(model: ModelProto, tensor: str, scale: float, kind: int) -> list[onnx.NodeProto]:
    value = np.array(scale if scale >= _SMALLEST_SCALE else 1, np.float32)  # nothing but zeros fits any scale
    parameters = _parameters(model, tensor, value, kind)
    narrow = quantised_name(tensor)
    return [
        onnx.helper.make_node("QuantizeLinear", [tensor, *parameters], [narrow], name=f"quantise_{tensor}"),
        onnx.helper.make_node(
            "DequantizeLinear", [narrow, *parameters], [dequantised(tensor)], name=f"dequantise_{tensor}"
        ),
    ]


def _quantise_weight(model: ModelProto, layer: Layer, tensor: TensorProto, kind: int, name: str) -> onnx.NodeProto:
    values = onnx.numpy_helper.to_array(tensor)
    if not np.isfinite(values).all():
        raise InputError(f"The weight {tensor.name} of {name} holds values that are no numbers.", "Train it again.")
    scales = channel_scales(values, layer.channels, kind)
    content = rounded(values, scales, layer.channels, kind).tobytes()
    narrow = quantised_name(tensor.name)
    model.graph.initializer.append(onnx.helper.make_tensor(narrow, kind, values.shape, content, raw=True))
    parameters = _parameters(model, tensor.name, scales, kind)
    return onnx.helper.make_node(
        "DequantizeLinear",
        [narrow, *parameters],
        [dequantised(tensor.name)],
        name=f"dequantise_{tensor.name}",
        axis=layer.channels,
    )


def _parameters(model: ModelProto, tensor: str, scales: NDArray[np.float32], kind: int) -> list[str]:
    """Add scale and zero point of a tensor to the model; return their names."""
    names = [f"{tensor}_scale", f"{tensor}_zero_point"]
    zeros = np.zeros(scales.shape, _NUMPY[kind]).tobytes()
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, names[0]))
    model.graph.initializer.append(onnx.helper.make_tensor(names[1], kind, scales.shape, zeros, raw=True))
    return names


def _drop_unused(model: ModelProto) -> None:
    """Remove the float32 weights that no node uses any more."""
    used = {tensor for node in model.graph.node for tensor in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
