"""Time librc_ort's CUDA kernels in ONNX Runtime, in turns, into a JSON file.

    RC_DEPLOY_LIBRARIES=build/plugins/lib python benchmarks/onnxruntime_gpu.py benchmarks/results/onnxruntime_gpu.json

ResCNet-32 on 32x32 images with its bodies, with librc_ort, and with librc_ort and fused tails, beside the same
ResNet-32 without RC: batch 1, 8 and 64, float32 (TF32 where ONNX Runtime takes it by default) and float16, plain and as
a CUDA graph. In- and outputs stay on the device; a time is that of one run to its end, as the host sees it. With
--rehearse, a small network takes the same way on the CPU, to show that all of it works: its figures are no results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from native_cpu import exported, seconds
from rc_deploy import machine, native
from rc_deploy.graph.fuse import fused
from rc_deploy.graph.precision import typed
from rc_deploy.schema import OPERATORS
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

SHAPE = (3, 32, 32)
PRECISIONS = {"float32": Precision.FP32, "float16": Precision.FP16}


@dataclass(frozen=True)
class Plan:
    """What is measured, where and how often."""

    provider: str
    device: str
    depth: int
    batches: tuple[int, ...]
    rounds: int
    warm_up: int
    graph_options: dict[str, str]


GPU = Plan("CUDAExecutionProvider", "cuda", 32, (1, 8, 64), 101, 20, {"enable_cuda_graph": "1"})
REHEARSAL = Plan("CPUExecutionProvider", "cpu", 8, (1, 2), 3, 1, {})


def main() -> None:
    """Measure, or rehearse, and write one record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="run everything once, small and on the CPU")
    arguments = parser.parse_args()
    plan = REHEARSAL if arguments.rehearse else GPU
    _require(plan)
    with tempfile.TemporaryDirectory() as folder:
        resnet, rescnet = (exported(f"{name}{plan.depth}", Path(folder)) for name in ("resnet", "rescnet"))
    record = {
        "rehearsal": arguments.rehearse,
        "machine": machine.facts(),
        "rounds": plan.rounds,
        "runs": {
            f"{name}, batch {batch}": _measured(plan, _variants(plan, resnet, rescnet, precision), batch)
            for name, precision in PRECISIONS.items()
            for batch in plan.batches
        },
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    if arguments.rehearse:
        print("This was a rehearsal on the CPU: none of these figures is a result.")


def _require(plan: Plan) -> None:
    if native.onnx_runtime_library() is None:
        raise SystemExit(f"There is no librc_ort: run `make native`, and set {native.VARIABLE}=build/plugins/lib.")
    if plan.provider not in onnxruntime.get_available_providers():
        raise SystemExit("This ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu in place of onnxruntime.")
    if plan is GPU:
        onnxruntime.preload_dlls()  # CUDA's libraries, from PyTorch's packages


def _variants(
    plan: Plan, resnet: ModelProto, rescnet: ModelProto, precision: Precision
) -> dict[str, tuple[ModelProto, bool]]:
    """The networks, and whether the library runs their operators."""
    plain, calibrated = (typed(model, precision, "the network") for model in (resnet, rescnet))
    return {
        f"ResNet-{plan.depth}": (plain, False),
        f"ResCNet-{plan.depth}, bodies": (calibrated, False),
        f"ResCNet-{plan.depth}, librc_ort": (calibrated, True),
        f"ResCNet-{plan.depth}, fused tails": (fused(calibrated), True),
    }


def _measured(plan: Plan, variants: dict[str, tuple[ModelProto, bool]], batch: int) -> dict[str, Any]:
    """Times of all that runs, in turns, and their ratios to the first variant's of the same mode in the same round."""
    images = np.random.default_rng(0).normal(size=(batch, *SHAPE)).astype(np.float32)
    record: dict[str, Any] = {}
    runs: dict[tuple[str, str], Run] = {}
    for name, (model, library) in variants.items():
        record[name] = {"nodes": _nodes(plan, model, library, images)}
        runs[name, "plain"] = Run(plan, model, library, images)
        try:
            runs[name, "cuda_graph"] = Run(plan, model, library, images, plan.graph_options)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's own classes: not every session can be captured
            record[name]["cuda_graph"] = {"failed": str(error)}
    times = np.array([[seconds(run) for run in runs.values()] for _ in range(plan.warm_up + plan.rounds)])
    times = times[plan.warm_up :]
    for column, ((name, mode), run) in zip(times.T, runs.items(), strict=True):
        first = next(index for index, (_, other) in enumerate(runs) if other == mode)
        record[name][mode] = {
            "milliseconds": _spread(1e3 * column),
            "ratio": _spread(column / times[:, first]),
            "largest_logit": run.largest_logit(),
        }
    return record


class Run:
    """A call that runs a model once, with in- and output bound to memory of the device that is kept.

    Raises:
        Exception: ONNX Runtime cannot run it in this way.
    """

    def __init__(
        self,
        plan: Plan,
        model: ModelProto,
        library: bool,
        images: NDArray[np.float32],
        options: dict[str, str] | None = None,
    ) -> None:
        self._session = _session(plan, model, library, len(images), options)
        self._binding = self._session.io_binding()
        (given,), (wanted,) = self._session.get_inputs(), self._session.get_outputs()
        self._images = onnxruntime.OrtValue.ortvalue_from_numpy(images, plan.device, 0)
        shape = (len(images), wanted.shape[1])
        self._logits = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, plan.device, 0)
        self._binding.bind_ortvalue_input(given.name, self._images)
        self._binding.bind_ortvalue_output(wanted.name, self._logits)
        for _ in range(3):  # a CUDA graph is captured in one of these, and replayed from then on
            self()

    def __call__(self) -> None:
        """Run once, to the end."""
        self._session.run_with_iobinding(self._binding)

    def largest_logit(self) -> float:
        """Return a number that shows that the variants computed the same."""
        return float(np.abs(self._logits.numpy()).max())


def _session(
    plan: Plan, model: ModelProto, library: bool, batch: int, options: dict[str, str] | None = None, profile: str = ""
) -> Any:
    asked = onnxruntime.SessionOptions()
    asked.log_severity_level = 3
    asked.enable_profiling, asked.profile_file_prefix = bool(profile), profile
    # Shapes that are known leave nothing to compute on the CPU, which a CUDA graph could not hold.
    name = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    asked.add_free_dimension_override_by_name(name, batch)
    if library:
        asked.register_custom_ops_library(str(native.onnx_runtime_library()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), asked, providers=[(plan.provider, options or {})])
    if session.get_providers()[0] != plan.provider:
        raise SystemExit(f"ONNX Runtime cannot use its {plan.provider} here, and nothing was measured.")
    return session


def _nodes(plan: Plan, model: ModelProto, library: bool, images: NDArray[np.float32]) -> dict[str, int]:
    """Count the nodes that run, by execution provider; rc operators run where the rest does, or nothing is measured."""
    with tempfile.TemporaryDirectory() as folder:
        session = _session(plan, model, library, len(images), profile=str(Path(folder) / "profile"))
        session.run(None, {session.get_inputs()[0].name: images})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]]
    native_nodes = {node["provider"] for node in nodes if node["op_name"] in OPERATORS}
    if native_nodes != ({plan.provider} if library else set()):
        raise SystemExit(
            f"rc operators run on {native_nodes or 'nothing'}: {native.onnx_runtime_library()} has no CUDA."
        )
    return dict(Counter(node["provider"] for node in nodes))


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
