"""Conversion of an exported float32 graph to the precision it shall run in: precision lives in the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir

from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.optional import require
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from onnx import ModelProto

FP16_LARGEST = float(np.finfo(np.float16).max)


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
    if precision is Precision.FP32:
        return model
    _require_representable(model, name)
    converter = require("onnxruntime.transformers.float16", "Conversion to float16")
    # The converter changes what it is given, unless shape inference, which is slow, made it a model of its own.
    source = _copy(model) if _has_all_types(model) else onnx.shape_inference.infer_shapes(model)
    converted = _sorted(converter.convert_float_to_float16(source, keep_io_types=True, disable_shape_infer=True))
    onnx_model.set_provenance(converted, replace(provenance, precision=precision))
    return converted


def _has_all_types(model: ModelProto) -> bool:
    """Whether the type of every tensor is written down, as `rc-deploy export` does."""
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    return all(name in known for node in model.graph.node for name in node.output)


def _copy(model: ModelProto) -> ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _require_representable(model: ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size and np.abs(values).max() > FP16_LARGEST:
            raise InputError(
                f"The weight {tensor.name} of {name} reaches {np.abs(values).max():.3g}; float16 ends at "
                f"{FP16_LARGEST:.0f}.",
                "Build with --fp32.",
            )


def _sorted(model: ModelProto) -> ModelProto:
    """Return the model with its nodes in topological order, which the converter does not keep."""
    graph = onnx_ir.from_proto(model)
    graph.graph.sort()
    return onnx_ir.to_proto(graph)
