"""Time the native CPU kernels in ONNX Runtime, one thread, in turns: python benchmarks/native_cpu.py.

1. GCLU on 64x64x32x32 floats: librc_ort, its body's operators, and a copy of the tensor.
2. ResCNet-32 on 32x32 images, beside the same ResNet-32 without RC: bodies, librc_ort, with fused tails, and as
   rc-deploy runs it, in the layout of ONNX Runtime's convolutions; and ResNet-32 with GCLU in place of every ReLU.

Ratios are taken within a round and their median printed, for the machine's other work slows down whole rounds.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import onnxruntime

from rc_deploy import checkpoint, models, native
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.export import export
from rc_deploy.graph import blocked
from rc_deploy.graph.bodies import attach_bodies
from rc_deploy.graph.fuse import fused
from rc_deploy.graph.model import load
from rc_deploy.specs import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

WARM_UP = 3
GCLU_ROUNDS = 31
NETWORK_ROUNDS = {1: 401, 64: 41}
GCLU = '<ir_version: 10, opset_import: ["": 20, "rc": 1]> g (float[N] X) => (float[N] Y) { Y = rc.GCLU (X) }'


def main() -> None:
    """Print medians in milliseconds, and the ratios to the first column's."""
    library = native.onnx_runtime_library()
    if library is None:
        raise SystemExit(f"There is no librc_ort: run `make native`, and set {native.VARIABLE}=build/plugins/lib.")
    print(f"ONNX Runtime {onnxruntime.__version__}, 1 thread, medians of rounds in turns")
    _gclu()
    _networks(library)


def _gclu() -> None:
    x = np.random.default_rng(0).normal(size=64 * 64 * 32 * 32).astype(np.float32)
    y = np.empty_like(x)
    model = onnx.parser.parse_model(GCLU)
    attach_bodies(model)
    runs = {
        "copy": lambda: np.copyto(y, x),
        "librc_ort": _runner(model, x, library=True),
        "body's operators": _runner(model, x, library=False),
    }
    _report("GCLU, 64x64x32x32 floats", runs, GCLU_ROUNDS)


def _networks(library: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        resnet, rescnet = (exported(name, Path(folder)) for name in ("resnet32", "rescnet32"))
        gclu = exported("resnet32", Path(folder), activation="gclu")
    fastest, fastest_gclu = (blocked.fastest(model, library) for model in (rescnet, gclu))
    for batch, rounds in NETWORK_ROUNDS.items():
        images = np.random.default_rng(0).normal(size=(batch, 3, 32, 32)).astype(np.float32)
        runs = {
            "ResNet-32": _runner(resnet, images, library=False),
            "ResCNet-32, bodies": _runner(rescnet, images, library=False),
            "ResCNet-32, librc_ort": _runner(rescnet, images, library=True),
            "... with fused tails": _runner(fused(rescnet), images, library=True),
            "... in blocked layout": _runner(fastest, images, library=True),
            "GCLU ResNet-32, bodies": _runner(gclu, images, library=False),
            "... librc_ort, blocked": _runner(fastest_gclu, images, library=True),
        }
        _report(f"batch {batch}", runs, rounds)


def exported(name: str, folder: Path, **options: str) -> ModelProto:
    """Return the network with fresh weights: its speed does not depend on them."""
    spec = InputSpec((3, 32, 32), (0.5,) * 3, (0.25,) * 3, tuple("abcdefghij"))
    arguments = {"num_classes": 10, **options}
    path = folder / f"{name}.pt"
    weights = models.create(name, arguments).state_dict()
    checkpoint.save(Checkpoint(name, arguments, spec, weights), path)
    export(path, path.with_suffix(".onnx"))
    return load(path.with_suffix(".onnx"))


def _runner(model: ModelProto, x: np.ndarray[Any, Any], library: bool) -> Callable[[], Any]:
    """Return a call that runs the model on one thread, with its output bound to memory that is kept."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if library:
        options.register_custom_ops_library(str(native.onnx_runtime_library()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    (shape,) = (output.shape for output in session.run(None, {session.get_inputs()[0].name: x}))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, output)
    return lambda: session.run_with_iobinding(binding)


def _report(title: str, runs: dict[str, Callable[[], Any]], rounds: int) -> None:
    times = np.array([[seconds(run) for run in runs.values()] for _ in range(WARM_UP + rounds)])[WARM_UP:]
    ratios = times / times[:, :1]
    print(f"\n{title}, {rounds} rounds")
    for name, column, ratio in zip(runs, times.T, ratios.T, strict=True):
        low, median, high = np.percentile(ratio, (25, 50, 75))
        print(f"{name:24} {1000 * np.median(column):8.3f} ms   {median:6.2f}x ({low:.2f} to {high:.2f})")


def seconds(run: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
