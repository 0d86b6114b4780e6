"""Say where ONNX Runtime's time goes, batch 1, one thread: python benchmarks/native_profile.py.

1. By operator in ResNet-32 and in ResCNet-32 as rc-deploy runs it, from ONNX Runtime's own profiler, whose times
   leave out what lies between the nodes.
2. What a node costs whatever it computes: chains of them on 16 numbers.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx.parser
import onnxruntime

from native_cpu import exported, seconds
from rc_deploy import native
from rc_deploy.graph import blocked

if TYPE_CHECKING:
    from onnx import ModelProto

RUNS = 300
CHAIN = 101
HEADER = '<ir_version: 10, opset_import: ["": 20, "rc": 1]> g (float[1,16,1,1] X0) => (float[1,16,1,1] Y)'
WEIGHTS = {"W1": (4, 16), "B1": (4,), "W2": (32, 4), "B2": (32,)}
NODES = {
    "Relu": "Relu ({x})",
    "rc.GCLU": "rc.GCLU ({x})",
    "rc.CalibratedTail": "rc.CalibratedTail ({x}, {x}, W1, B1, W2, B2)",
}


def main() -> None:
    """Print a row for each operator."""
    library = native.onnx_runtime_library()
    if library is None:
        raise SystemExit(f"There is no librc_ort: run `make native`, and set {native.VARIABLE}=build/plugins/lib.")
    with tempfile.TemporaryDirectory() as folder:
        resnet, rescnet = (exported(name, Path(folder)) for name in ("resnet32", "rescnet32"))
        for name, model in {"ResNet-32": resnet, "ResCNet-32": blocked.fastest(rescnet, library)}.items():
            _profile(name, model, library, Path(folder))
    print(f"\nA node on 16 numbers, from chains of {CHAIN} and of one")
    for name, node in NODES.items():
        print(f"{name:24} {_node_microseconds(node, library):6.2f} us")


def _session(
    model: ModelProto, library: Path, profile: Path | None = None, optimise: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.register_custom_ops_library(str(library))
    if not optimise:  # it would find that a Relu of a Relu is one
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _profile(name: str, model: ModelProto, library: Path, folder: Path) -> None:
    session = _session(model, library, profile=folder / "profile")
    image = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    for _ in range(RUNS):
        session.run(None, {session.get_inputs()[0].name: image})
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]][event["name"]].append(event["dur"])
    # Whole microseconds are what the profiler counts in: means, without the slowest tenth, which others' work slows.
    means = {kind: [_trimmed_mean(node) for node in nodes.values()] for kind, nodes in times.items()}
    total = sum(sum(nodes) for nodes in means.values())
    print(f"\n{name}: {total:.0f} us in its nodes")
    for kind, nodes in sorted(means.items(), key=lambda item: -sum(item[1])):
        print(f"{kind:24} {len(nodes):3} nodes  {sum(nodes):7.0f} us  {100 * sum(nodes) / total:5.1f}%")


def _trimmed_mean(times: list[float]) -> float:
    kept = sorted(times)[: len(times) - len(times) // 10]
    return sum(kept) / len(kept)


def _node_microseconds(node: str, library: Path) -> float:
    long, short = (_chain_seconds(node, count, library) for count in (CHAIN, 1))
    return 1e6 * (long - short) / (CHAIN - 1)


def _chain_seconds(node: str, count: int, library: Path) -> float:
    names = ["X0", *(f"X{index}" for index in range(1, count)), "Y"]
    body = "\n".join(f"{y} = {node.format(x=x)}" for x, y in pairwise(names))
    model = onnx.parser.parse_model(f"{HEADER} {{ {body} }}")
    for name, shape in WEIGHTS.items():  # constants, as in a network
        if name in node:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 0.1, np.float32), name))
    session = _session(model, library, optimise=False)
    feeds = {"X0": np.ones((1, 16, 1, 1), np.float32)}
    return float(np.percentile([seconds(lambda: session.run(None, feeds)) for _ in range(RUNS)], 20))


if __name__ == "__main__":
    main()
