"""Time per layer of an ONNX file, by ONNX Runtime's profiler.

What ONNX Runtime runs are the nodes of its own optimised graph. They are brought back to the nodes of the file, and
with them to PyTorch's modules, whose names `export` keeps:

1. a fused `rc` operator belongs to the calibration that its output was computed with in the file;
2. a node that makes a value of the file, in whatever layout, belongs to the node that makes it there;
3. so does a convolution in the blocked layout, which is named after that value;
4. any other is a step towards the value of another node (of a body, or a change of layout) and belongs to that one.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from rc_deploy.bench.spans import GCLU, OTHER, RC, Span, per_run
from rc_deploy.graph.blocked import MOVED
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.runners import OPTIMISED
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN, RESPONSE_CALIBRATION
from rc_deploy.schema import GCLU as GCLU_OPERATOR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from rc_deploy.runners import OnnxRunner

_FUSED = (CALIBRATED_RESIDUAL.name, CALIBRATED_TAIL.name)
_BLOCKED = "_nchwc"
NO_LAYER = "(nodes of no layer)"
# What ONNX Runtime says of the bytes of a node's in- and outputs. Its `parameter_size` leaves packed weights out.
_SIZES = ("activation_size", "output_size")
_NODE_EVENT, _RUN_EVENT = "_kernel_time", "model_run"


def onnx_spans(runner: OnnxRunner, images: NDArray[np.float32], runs: int) -> tuple[float, list[Span]]:
    """Return the seconds of a run on normalised images (N, C, H, W), of so many, and the spans of the nodes in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with runner.traced(folder) as traced:
            for _ in range(1 + runs):
                traced.run(images)
            record = traced.end_trace()
        events = json.loads(record.read_text(encoding="utf-8"))
        optimised = onnx.load(folder / OPTIMISED)
    runs_seen = [event for event in events if event.get("name") == _RUN_EVENT]
    start = runs_seen[0]["ts"] + runs_seen[0]["dur"]  # the first run is the warm-up
    layers, weights = layers_of(runner.model, optimised), _weight_bytes(optimised)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    moved: dict[tuple[str, str], int] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_NODE_EVENT) and event["ts"] >= start:
            node = event["name"].removesuffix(_NODE_EVENT), event["args"]["op_name"]
            times[node].append(event["dur"] / 1e6)
            moved[node] = weights.get(node[0], 0) + sum(int(event["args"].get(part, 0)) for part in _SIZES)
    spans = [
        Span(*layers.get(node, (NO_LAYER, OTHER)), operator, per_run(seconds, runs), moved[node, operator])
        for (node, operator), seconds in times.items()
    ]
    return per_run([event["dur"] / 1e6 for event in runs_seen[1:]], runs), spans


def _weight_bytes(model: ModelProto) -> dict[str, int]:
    """Return the bytes of the weights of each node, by its name."""
    sizes = {tensor.name: onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer}
    return {node.name: sum(sizes.get(name, 0) for name in node.input) for node in model.graph.node}


def layers_of(model: ModelProto, optimised: ModelProto) -> dict[str, tuple[str, str]]:
    """Return layer and kind of each named node of the optimised graph of a model, by the rules above."""
    makers = {output: node for node in model.graph.node for output in node.output}
    kinds = dict(_kinds(model))
    users: dict[str, NodeProto] = {}
    for node in reversed(optimised.graph.node):
        users.update(dict.fromkeys(node.input, node))
    found = {}
    for node in optimised.graph.node:
        maker = _maker(node, makers, users)
        if maker is not None:
            layer = _layer(maker)
            found[node.name] = (layer, _kind(layer, kinds))
    return found


def _maker(node: NodeProto, makers: dict[str, NodeProto], users: dict[str, NodeProto]) -> NodeProto | None:
    """Return the node of the file that a node of the optimised graph belongs to."""
    while True:
        known = next((name for output in node.output if (name := output.removesuffix(MOVED)) in makers), None)
        if (node.domain, node.op_type) in {(DOMAIN, name) for name in _FUSED} and known is not None:
            return _calibration(makers[known], makers)  # 1
        if known is not None:
            return makers[known]  # 2
        if node.name.removesuffix(_BLOCKED) in makers:
            return makers[node.name.removesuffix(_BLOCKED)]  # 3
        following = next((users[output] for output in node.output if output in users), None)
        if following is None:
            return None
        node = following  # 4


def _calibration(node: NodeProto, makers: dict[str, NodeProto]) -> NodeProto:
    """Return the nearest calibration that a node's output was computed with; the node itself where there is none."""
    ahead = [node]
    for candidate in ahead:
        if (candidate.domain, candidate.op_type) == (DOMAIN, RESPONSE_CALIBRATION.name):
            return candidate
        ahead += [makers[value] for value in candidate.input if value in makers and makers[value] not in ahead]
    return node


def _kinds(model: ModelProto) -> list[tuple[str, str]]:
    """Return layer and kind of every `rc` node, fused ones too."""
    named = {GCLU_OPERATOR.name: GCLU, **dict.fromkeys((RESPONSE_CALIBRATION.name, *_FUSED), RC)}
    return [(_layer(node), named[node.op_type]) for node in model.graph.node if node.domain == DOMAIN]


def _layer(node: NodeProto) -> str:
    module = next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), "")
    return module or node.name or node.op_type


def _kind(layer: str, kinds: dict[str, str]) -> str:
    """Return the kind of a layer; parts of an RC layer, its Linears, are RC too."""
    if layer in kinds:
        return kinds[layer]
    return next((kind for name, kind in kinds.items() if kind == RC and layer.startswith(f"{name}.")), OTHER)
