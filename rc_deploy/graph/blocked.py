"""The form of a graph that ONNX Runtime runs fastest on this machine, with the native kernels.

ONNX Runtime's convolutions want `block` channels side by side, (N, C / block, H, W, block), 16 of them with AVX-512.
Its optimiser puts a ReorderInput before and a ReorderOutput behind every run of convolutions, for custom operators know
only (N, C, H, W). On a ResCNet-32 these copies cost as much as the calibration itself. GCLU and sums do not care how
elements lie, and librc_ort's CalibratedTail computes in either layout; so, after ONNX Runtime's own optimisation,

    op(ReorderOutput(X), ...)    ->  ReorderOutput(op(X, ...))                                               (1)
    ReorderInput(ReorderOutput(X))  ->  X                                                                   (2)

What comes out fits this processor and this ONNX Runtime alone: it is made whenever a session is, and never written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.helper
import onnx_ir as ir
from onnx import TensorProto
from onnx_ir import convenience
from onnx_ir.passes.common import RemoveUnusedNodesPass

from rc_deploy.errors import InputError, reason
from rc_deploy.graph.fuse import fused
from rc_deploy.graph.rewrite import same_shape
from rc_deploy.optional import require
from rc_deploy.runners import WRONG_OPTIMISER, register
from rc_deploy.schema import CALIBRATED_TAIL, DOMAIN, GCLU

if TYPE_CHECKING:
    from onnx import ModelProto

_LAYOUT_DOMAIN = "com.microsoft.nchwc"  # of ONNX Runtime's operators on blocked channels
# What (1) adds to the name of a value that is computed in the layout.
MOVED = ".blocked"
_BLOCKS = (8, 16)  # that CalibratedTail's kernel knows
# Operators that (1) applies to, and how many inputs, from the first on, are in the layout; all of them of one shape.
_ANY_LAYOUT = {(DOMAIN, GCLU.name): 1, (DOMAIN, CALIBRATED_TAIL.name): 2, ("", "Add"): 2}


def fastest(model: ModelProto, library: Path) -> ModelProto:
    """Return what computes the same as `model`, for ONNX Runtime on this machine's CPU with `library` registered.

    Args:
        model: checked, from `rc-deploy export`.
        library: librc_ort.

    Raises:
        InputError: ONNX Runtime refuses the model.
        UnsupportedError: it refuses the library.
        MissingDependencyError: it is not installed.
    """
    runtime = require("onnxruntime", "Running an ONNX file")
    optimised = _optimised(runtime, fused(model), library)
    graph = ir.from_proto(optimised)
    reordered = any(_is(node, "ReorderOutput") for node in graph.graph)
    block = _block(runtime) if reordered else 0
    return blocked(graph, block) if block in _BLOCKS else optimised


def blocked(model: ir.Model, block: int) -> ModelProto:
    """Apply (1) and (2) to the main graph wherever they fit.

    Args:
        model: optimised by ONNX Runtime; rewritten in place.
        block: how many channels lie side by side.
    """
    graph = model.graph
    # In order: a tail's output, reordered by (1), may be the next one's shortcut.
    for node in tuple(graph):
        if (node.domain, node.op_type) in _ANY_LAYOUT:
            _move_before_reorder(graph, node, block)
    for node in tuple(graph):
        source = _blocked_source(node.inputs[0], block) if _is(node, "ReorderInput") else None
        if source is not None and not node.outputs[0].is_graph_output():
            convenience.replace_all_uses_with(node.outputs[0], source)
            graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def _move_before_reorder(graph: ir.Graph, node: ir.Node, block: int) -> None:
    """Apply (1) where all the inputs in the layout come from a ReorderOutput."""
    count = _ANY_LAYOUT[node.domain, node.op_type]
    sources = [_blocked_source(value, block) for value in node.inputs[:count]]
    if None in sources or not all(same_shape(node.inputs[0], value) for value in node.inputs[1:count]):
        return
    layout = [ir.AttrInt64("block", block)] if node.op_type == CALIBRATED_TAIL.name else []
    moved = ir.Node(
        node.domain,
        node.op_type,
        [*sources, *node.inputs[count:]],
        [*node.attributes.values(), *layout],
        num_outputs=1,
        name=node.name,
    )
    old = node.outputs[0]
    moved.outputs[0].name = f"{old.name}{MOVED}"
    channels = node.inputs[0].producer().attributes["channels"]  # type: ignore[union-attr] # _blocked_source saw it
    reorder = ir.Node(_LAYOUT_DOMAIN, "ReorderOutput", moved.outputs, [channels], num_outputs=1)
    reorder.outputs[0].shape, reorder.outputs[0].type = old.shape, old.type
    convenience.replace_nodes_and_values(graph, node, [node], [moved, reorder], [old], reorder.outputs)


def _blocked_source(value: ir.Value | None, block: int) -> ir.Value | None:
    """Return what `value` is reordered from; None where it is not, or where channels do not fill the blocks."""
    node = None if value is None else value.producer()
    if node is None or not _is(node, "ReorderOutput") or node.attributes["channels"].value % block:
        return None
    last = node.attributes.get("channels_last")
    return node.inputs[0] if last is None or last.value == 0 else None


def _is(node: ir.Node, reorder: str) -> bool:
    return (node.domain, node.op_type) == (_LAYOUT_DOMAIN, reorder)


def _optimised(runtime: Any, model: ModelProto, library: Path) -> ModelProto:
    """Return what ONNX Runtime makes of the model before it runs it."""
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        register(options, library)
        try:
            runtime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=[WRONG_OPTIMISER],
            )
        except Exception as error:
            raise InputError(f"ONNX Runtime refuses the model: {reason(error)}", "Export it again.") from error
        return onnx.load(options.optimized_model_filepath)


def _block(runtime: Any) -> int:
    """Return how many channels ONNX Runtime lays side by side on this processor: it is asked, by reordering some."""
    channels = 64
    image = np.arange(2 * channels, dtype=np.float32).reshape(1, channels, 1, 2)
    node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain=_LAYOUT_DOMAIN)
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in "xy"]
    domains = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(_LAYOUT_DOMAIN, 1)]
    graph = onnx.helper.make_graph([node], "layout", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    # The second position of the first channel, 1, comes after the first position of all the block's channels.
    return int(np.flatnonzero(session.run(None, {"x": image})[0].ravel() == 1)[0])
