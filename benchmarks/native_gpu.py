"""Time the CUDA kernels of plugins/cuda against copies and against PyTorch, all in turns, into a JSON file.

    PYTHONPATH=tests python benchmarks/native_gpu.py benchmarks/results/native_gpu.json

Bandwidth: each operator on tensors much larger than the device's cache, next to a copy of as many bytes. Tails: all 15
of ResCNet-32 in one CUDA graph, at several batches, next to the same in PyTorch's eager operators and torch.compile's.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from native_build import built_with_cuda
from native_cuda import Kernels
from rc_deploy.nn import functional as rc

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The residual tails of ResCNet-32: five of each stage (C, positions, hidden).
STAGES = [(16, 1024, 4), (32, 256, 8), (64, 64, 16)]
BLOCKS = 5
LARGE = (256, 256, 56 * 56)  # N, C, positions: 411 MB of halves
ROUNDS, WARM_UP = 30, 5

Work = Callable[[], Any]


def main() -> None:
    """Run both parts and write one record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--batch", default="1,8,64", help="batches of the tails")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("native_gpu.py: PyTorch finds no GPU here, and nothing was measured")
    kernels = Kernels(built_with_cuda("librc_cuda.so"))
    record = {
        "machine": _machine(),
        "bandwidth": {name: _bandwidth(kernels, dtype) for name, dtype in DTYPES.items()},
        "tails": {
            f"{name}, batch {batch}": _tails(kernels, dtype, batch)
            for name, dtype in DTYPES.items()
            for batch in map(int, arguments.batch.split(","))
        },
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def _machine() -> dict[str, str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True).stdout if shutil.which("nvidia-smi") else ""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "gpu": found.strip() or torch.cuda.get_device_name(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
    }


def _bandwidth(kernels: Kernels, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Bytes moved a second by each operator, and as a share of what a copy in the same turns moves."""
    a, shortcut, y = (torch.randn(LARGE, device="cuda").to(dtype) for _ in range(3))
    mu, log_var = (torch.randn(LARGE[:2], device="cuda").to(dtype) for _ in range(2))
    channels, hidden = LARGE[1], LARGE[1] // 4
    weights = _weights(channels, hidden, dtype)
    workspace = kernels.workspace(a)
    size = a.numel() * a.element_size()
    works: dict[str, tuple[int, Work]] = {
        "copy": (2 * size, lambda: y.copy_(a)),
        "GCLU": (2 * size, lambda: kernels.gclu(a, y)),
        "GCLU sigmoid": (2 * size, lambda: kernels.gclu(a, y, "sigmoid")),
        "GCLU tanh": (2 * size, lambda: kernels.gclu(a, y, "tanh")),
        "ResponseCalibration": (2 * size, lambda: kernels.response_calibration(a, mu, log_var, y)),
        "CalibratedResidual": (3 * size, lambda: kernels.calibrated_residual(a, mu, log_var, shortcut, y)),
        "CalibratedTail": (3 * size, lambda: kernels.calibrated_tail(a, shortcut, weights, y, workspace)),
    }
    times = _in_turns({name: work for name, (_, work) in works.items()})
    speeds = {name: works[name][0] / np.array(times[name]) for name in works}
    return {
        name: {
            "median_tb_per_s": float(np.median(speed)) / 1e12,
            "share_of_copy": float(np.median(speed / speeds["copy"])),
            "share_low": float(np.percentile(speed / speeds["copy"], 10)),
            "share_high": float(np.percentile(speed / speeds["copy"], 90)),
        }
        for name, speed in speeds.items()
    }


def _tails(kernels: Kernels, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    """The 15 tails one after the other: microseconds in a CUDA graph, and kernels."""
    operands = []
    for channels, positions, hidden in STAGES:
        for _ in range(BLOCKS):
            a, shortcut, y = (torch.randn(batch, channels, positions, device="cuda").to(dtype) for _ in range(3))
            operands.append((a, shortcut, _weights(channels, hidden, dtype), y, kernels.workspace(a)))

    def fused() -> None:
        for a, shortcut, weights, y, workspace in operands:
            kernels.calibrated_tail(a, shortcut, weights, y, workspace)

    compiled = torch.compile(_tail, mode="max-autotune-no-cudagraphs")
    works = {
        "fused": fused,
        "eager": lambda: [_tail(a, shortcut, *weights) for a, shortcut, weights, _, _ in operands],
        "compiled": lambda: [compiled(a, shortcut, *weights) for a, shortcut, weights, _, _ in operands],
    }
    graphs = {name: _captured(work) for name, work in works.items()}
    times = _in_turns({name: graph.replay for name, graph in graphs.items()})
    medians = {name: float(np.median(time)) for name, time in times.items()}
    return {
        "microseconds": {name: 1e6 * time for name, time in medians.items()},
        "kernels": {name: _kernels(work) for name, work in works.items()},
        "speedup_over_eager": medians["eager"] / medians["fused"],
        "speedup_over_compiled": medians["compiled"] / medians["fused"],
    }


def _tail(a: torch.Tensor, shortcut: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    w1, b1, w2, b2 = weights
    hidden = torch.nn.functional.linear(a.mean(dim=2), w1, b1)
    mu, log_var = torch.nn.functional.linear(hidden, w2, b2).chunk(2, dim=1)
    return torch.relu(rc.response_calibration(a, mu, log_var) + shortcut)


def _weights(channels: int, hidden: int, dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = [(hidden, channels), (hidden,), (2 * channels, hidden), (2 * channels,)]
    return [(0.1 * torch.randn(shape, device="cuda")).to(dtype) for shape in shapes]


def _captured(work: Work) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _kernels(work: Work) -> int:
    """Count the kernels that `work` launches."""
    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        work()
        torch.cuda.synchronize()
    on_device = [event.name for event in record.events() or () if str(event.device_type) == "DeviceType.CUDA"]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device)


def _in_turns(works: dict[str, Work]) -> dict[str, list[float]]:
    """Seconds on the device of each work, all of them in every round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(WARM_UP + ROUNDS):
        for name, work in works.items():
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            start.record()
            work()
            end.record()
            end.synchronize()
            if turn >= WARM_UP:
                times[name].append(1e-3 * start.elapsed_time(end))
    return times


if __name__ == "__main__":
    main()
