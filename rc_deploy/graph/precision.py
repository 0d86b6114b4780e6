"""Conversion of an exported float32 graph to the precision it shall run in: precision lives in the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto

from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.optional import require
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto

# Operators that do the arithmetic, in the graph's precision.
COMPUTE = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Floating-point types narrower than float32.
NARROW = {
    kind
    for name, kind in TensorProto.DataType.items()
    if name in ("FLOAT16", "BFLOAT16") or name.startswith(("FLOAT4", "FLOAT6E", "FLOAT8"))
}
_TYPES = {Precision.FP32: TensorProto.FLOAT, Precision.FP16: TensorProto.FLOAT16}
FP16_LARGEST = float(np.finfo(np.float16).max)
FP16_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def typed(model: ModelProto, precision: Precision, name: str) -> ModelProto:
    """Return `model` with weights and activations in `precision`; in- and outputs stay float32.

    The bodies of `rc` operators are left alone: they are generic in the tensors' type and compute in float32.

    Args:
        model: an exported float32 model.
        precision: what to convert to.
        name: of the file it came from, for messages.

    Raises:
        InputError: the model is not float32, or has weights that float16 cannot hold.
        MissingDependencyError: ONNX Runtime, whose converter does the work, is not installed.
    """
    provenance = onnx_model.provenance(model, name)
    if provenance.precision is not Precision.FP32:
        raise InputError(
            f"{name} already is a {provenance.precision} graph.",
            "Build from the float32 file that `rc-deploy export` wrote.",
        )
    require_precision(model, Precision.FP32, name)
    if precision is Precision.FP32:
        return model
    converter = require("onnxruntime.transformers.float16", "Conversion to float16")
    # What the converter is given it changes: it gets a model of its own.
    source = _copy(model) if _has_all_types(model) else onnx.shape_inference.infer_shapes(model)
    _round_weights(source, name)
    converted = _sorted(converter.convert_float_to_float16(source, keep_io_types=True, disable_shape_infer=True))
    onnx_model.set_provenance(converted, replace(provenance, precision=precision))
    return converted


def require_precision(model: ModelProto, precision: Precision, name: str) -> None:
    """Hold the types of a graph's tensors against the precision that it states.

    A float32 graph may hold no narrower floating-point tensor at all; in another, whatever computes (`COMPUTE`) must
    do so in its type.

    Args:
        model: checked.
        precision: that the model states.
        name: of the model, for the message.

    Raises:
        InputError: the graph is not what it says it is.
    """
    inferred = model if _has_all_types(model) else onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    if precision is Precision.FP32:
        wrong = sorted(tensor for tensor, kind in types.items() if kind in NARROW)
        wrong += [f"a body of {function.name}" for function in model.functions if _narrows(function)]
    else:
        computed = (node.output[0] for node in inferred.graph.node if node.op_type in COMPUTE)
        wrong = [tensor for tensor in computed if types.get(tensor) != _TYPES[precision]]
    if wrong:
        raise InputError(
            f"{name} says that it is {precision}, but {len(wrong)} of its tensors are not, the first being {wrong[0]}.",
            f"Make it again: rc-deploy build MODEL.onnx --{precision}, from the file that `rc-deploy export` wrote.",
        )


def _narrows(function: FunctionProto) -> bool:
    """Whether a body casts to a type narrower than float32."""
    casts = (attribute.i for node in function.node for attribute in node.attribute if attribute.name == "to")
    return any(kind in NARROW for kind in casts)


def _has_all_types(model: ModelProto) -> bool:
    """Whether the type of every tensor is written down, as `rc-deploy export` does."""
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    return all(name in known for node in model.graph.node for name in node.output)


def _copy(model: ModelProto) -> ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _round_weights(model: ModelProto, name: str) -> None:
    """Round weights that float16 would underflow, in place: the converter would raise them to its smallest number.

    Raises:
        InputError: a weight that float16 cannot hold.
    """
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or not values.size:
            continue
        if not np.isfinite(values).all():
            raise InputError(f"The weight {tensor.name} of {name} holds values that are no numbers.", "Train it again.")
        magnitudes = np.abs(values)
        if magnitudes.max() > FP16_LARGEST:
            raise InputError(
                f"The weight {tensor.name} of {name} reaches {magnitudes.max():.3g}; float16 ends at "
                f"{FP16_LARGEST:.0f}.",
                "Build with --fp32.",
            )
        if magnitudes[magnitudes > 0].min(initial=1) < FP16_SMALLEST:
            rounded = values.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))


def _sorted(model: ModelProto) -> ModelProto:
    """Return the model with its nodes in topological order, which the converter does not keep."""
    graph = onnx_ir.from_proto(model)
    graph.graph.sort()
    return onnx_ir.to_proto(graph)
