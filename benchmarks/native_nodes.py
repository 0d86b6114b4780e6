"""Say what a node of ResCNet-32 costs in ONNX Runtime, batch 1, one thread: python benchmarks/native_nodes.py.

A node's time is that of a chain of them less that of a single one, by the number of nodes. On 16 numbers it is what a
node costs whatever it computes; ONNX Runtime's own profiler would add its bookkeeping to every node.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx.parser
import onnxruntime

from native_cpu import seconds
from rc_deploy import native

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

ROUNDS = 101
CHAIN = 51
BLOCK = 16  # channels side by side in the layout of ONNX Runtime's convolutions with AVX-512
# What a ResCNet-32 has five of each.
STAGES = ((16, 32), (32, 16), (64, 8))
SHAPES = ((16, 1), *STAGES)
NODES = {
    "Relu": "Relu ({x})",
    "rc.GCLU": "rc.GCLU ({x})",
    "rc.CalibratedTail": "rc.CalibratedTail ({x}, {x}, W1, B1, W2, B2)",
    "..., blocked": f"rc.CalibratedTail <block = {BLOCK}> ({{x}}, {{x}}, W1, B1, W2, B2)",
}


def main() -> None:
    """Print a row for each node, with a column for each shape and one for five of each stage's."""
    library = native.onnx_runtime_library()
    if library is None:
        raise SystemExit(f"There is no librc_ort: run `make native`, and set {native.VARIABLE}=build/plugins/lib.")
    print(f"{'us a node':20}" + "".join(f"{f'{c} x {size} x {size}':>14}" for c, size in SHAPES) + f"{'5 of each':>14}")
    for name, node in NODES.items():
        times = [_microseconds(node, channels, size, library) for channels, size in SHAPES]
        stages = 5 * sum(times[1:])
        print(f"{name:20}" + "".join(f"{time:14.2f}" for time in (*times, stages)), flush=True)


def _microseconds(node: str, channels: int, size: int, library: Path) -> float:
    """Return the median, over rounds, of what a node adds."""
    x = np.random.default_rng(0).normal(size=(1, channels, size, size)).astype(np.float32)
    chain, single = (_session(_model(node, x, count), library) for count in (CHAIN, 1))
    added = [
        seconds(lambda: chain.run(None, {"X0": x})) - seconds(lambda: single.run(None, {"X0": x}))
        for _ in range(ROUNDS)
    ]
    return float(1e6 * np.median(added) / (CHAIN - 1))


def _model(node: str, x: np.ndarray, count: int) -> ModelProto:
    """Return `count` nodes in a row; a tail's weights are constants, as in a network."""
    names = ["X0", *(f"X{index}" for index in range(1, count)), "Y"]
    body = "\n".join(f"{after} = {node.format(x=before)}" for before, after in pairwise(names))
    kind = f"float[{','.join(map(str, x.shape))}]"
    header = '<ir_version: 10, opset_import: ["": 20, "rc": 1]>'
    model = onnx.parser.parse_model(f"{header} g ({kind} X0) => ({kind} Y) {{ {body} }}")
    if "W1" in node:
        channels = x.shape[1]
        hidden = channels // 4
        weights = {"W1": (hidden, channels), "B1": (hidden,), "W2": (2 * channels, hidden), "B2": (2 * channels,)}
        for name, shape in weights.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 0.1, np.float32), name))
    return model


def _session(model: ModelProto, library: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Optimised, a Relu of a Relu would be one.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
