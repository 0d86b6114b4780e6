"""Precision lives in the graph: converting an exported float32 graph, and holding a graph against what it states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnx import TensorProto

from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.layers import COMPUTE, layers, statistics
from rc_deploy.graph.narrow import narrowed
from rc_deploy.graph.quantise import FP8, INT8, quantised
from rc_deploy.graph.types import NARROW, types
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from onnx import FunctionProto, ModelProto

    from rc_deploy.specs import Calibration

ONNX_TYPES = {
    Precision.FP32: TensorProto.FLOAT,
    Precision.FP16: TensorProto.FLOAT16,
    Precision.BF16: TensorProto.BFLOAT16,
    Precision.INT8: INT8,
    Precision.FP8: FP8,
}


def typed(
    model: ModelProto,
    precision: Precision,
    name: str,
    kept: Collection[str] = (),
    ranges: Mapping[str, float] | None = None,
    calibration: Calibration | None = None,
) -> ModelProto:
    """Return `model` in `precision`; in- and outputs stay float32, and so do the statistics of response calibration.

    Args:
        model: an exported float32 model.
        precision: what to convert to.
        name: of the file it came from, for messages.
        kept: names of nodes that stay float32.
        ranges: of the tensors that layers are fed; for int8 and fp8.
        calibration: how the ranges were measured, for the model's metadata.

    Raises:
        InputError: the model is not float32, or cannot be converted to this precision.
    """
    provenance = onnx_model.provenance(model, name)
    if provenance.precision is not Precision.FP32:
        raise InputError(
            f"{name} already is a {provenance.precision} graph.",
            "Build from the float32 file that `rc-deploy export` wrote.",
        )
    require_precision(model, provenance, name)
    if precision is Precision.FP32:
        return model
    if precision.quantised:
        converted = quantised(model, ONNX_TYPES[precision], kept, ranges or {}, name)
    else:
        converted = narrowed(model, ONNX_TYPES[precision], statistics(model) | set(kept), name)
    stated = replace(provenance, precision=precision, kept=sorted(kept), calibration=calibration)
    onnx_model.set_provenance(converted, stated)
    return converted


def require_precision(model: ModelProto, stated: onnx_model.Provenance, name: str) -> None:
    """Hold the types of a graph's tensors against the precision that it states.

    A float32 graph may hold no narrower tensor at all. In another, whatever computes must do so in its type, but for
    what it says it keeps and for the statistics of response calibration; and something must.

    Args:
        model: checked.
        stated: what the model says of itself.
        name: of the model, for the message.

    Raises:
        InputError: the graph is not what it says it is.
    """
    found = types(model)
    precision = stated.precision
    kind = ONNX_TYPES[precision]
    foreign = sorted(tensor for tensor, number in found.items() if number in NARROW - {kind})
    foreign += [f"a body of {function.name}" for function in model.functions if _narrows(function)]
    computed = _computed(model, precision, found)
    wrong = foreign + [node for node, number in computed.items() if number != kind and node not in stated.kept]
    if wrong or (precision is not Precision.FP32 and kind not in computed.values()):
        first = f"the first being {wrong[0]}" if wrong else "for none of its layers is"
        raise InputError(
            f"{name} says that it is {precision}, but {len(wrong)} of its tensors are not, {first}.",
            f"Make it again: rc-deploy build MODEL.onnx --{precision}, from the file that `rc-deploy export` wrote.",
        )


def _computed(model: ModelProto, precision: Precision, found: dict[str, int]) -> dict[str, int]:
    """Return the type that each node computes in which should compute in `precision`, by node.

    In 16-bit and float32 graphs these are all convolutions and matrix products but those of statistics, and it is the
    type of their result. In a quantised graph they are the layers, and it is the type that both operands had before
    they were dequantised.
    """
    if precision.quantised:
        sources = {
            node.output[0]: found.get(node.input[0], TensorProto.FLOAT)
            for node in model.graph.node
            if node.op_type == "DequantizeLinear"
        }
        operands = {
            layer.node: {sources.get(tensor, TensorProto.FLOAT) for tensor in (layer.data, layer.weight)}
            for layer in layers(model)
        }
        return {node: kinds.pop() if len(kinds) == 1 else TensorProto.FLOAT for node, kinds in operands.items()}
    wide = statistics(model)
    return {
        node.name: found.get(node.output[0], TensorProto.UNDEFINED)
        for node in model.graph.node
        if node.op_type in COMPUTE and node.name not in wide
    }


def _narrows(function: FunctionProto) -> bool:
    """Whether a body casts to a type narrower than float32."""
    casts = (attribute.i for node in function.node for attribute in node.attribute if attribute.name == "to")
    return any(kind in NARROW for kind in casts)
