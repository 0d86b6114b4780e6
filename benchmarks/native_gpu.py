"""Time the CUDA kernels of plugins/cuda against copies and against PyTorch, all in turns, into a JSON file.

    PYTHONPATH=.:tests python benchmarks/native_gpu.py benchmarks/results/native_gpu.json

Bandwidth: each operator on tensors much larger than the device's cache, next to a copy of as many bytes. Tails: all 15
of ResCNet-32, at several batches, next to the same in PyTorch's eager operators and torch.compile's: everything in CUDA
graphs, and then the kernels and the eager operators launched one by one, as a program without graphs does. Plans:
single tails launched as the rules of plugins/cuda/tail_plan.h have it, next to every other way to launch them.

Every work is done 20 times between two events, as one CUDA graph where there is one, so that the host's time for a
launch is no part of it. The file is written after every figure: a run that is stopped leaves those that it had.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from native_build import built_with_cuda
from native_cuda import Kernels
from rc_deploy.nn import functional as rc
from rc_deploy.schema import DEFAULT_EPSILON

# What is used most comes first: a run that is stopped has it.
DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}
# The residual tails of ResCNet-32: five of each stage (C, positions, hidden).
STAGES = [(16, 1024, 4), (32, 256, 8), (64, 64, 16)]
BLOCKS = 5
# Whole tails whose bytes are counted (N, C, positions, hidden), much larger than the cache: one kernel, where a sample
# fits in a block's or a cluster's shared memory; three where it does not (the second in float32), or where the weights
# are too large to be read by every block (the third; plugins/cuda/tail_plan.h).
LARGE_TAILS = {
    "CalibratedTail, first stage of ResNet-32": (8192, 16, 1024, 4),
    "CalibratedTail, first stage of ResNet-50": (256, 256, 56 * 56, 64),
    "CalibratedTail, last stage of ResNet-50": (1024, 2048, 49, 512),
}
# Tails that plans are compared on (C, positions, hidden): those of ResCNet-32 and of ResCNet-50's four stages.
PLANNED = [*STAGES, (256, 56 * 56, 64), (512, 28 * 28, 128), (1024, 14 * 14, 256), (2048, 49, 512)]
PLANNED_BATCHES, PLANNED_DTYPES = (1, 8, 64), ("float16", "float32")
# Blocks that share a sample, -1 standing for three kernels, with the threads of each; 0 are as many as suit it.
BY_THE_RULES = (0, 0)
PLANS = [BY_THE_RULES, (-1, 0), *((blocks, threads) for blocks in (1, 2, 4, 8) for threads in (128, 256, 512, 1024))]
# Autotuning takes minutes: it is left to the one configuration that the claim is about.
AUTOTUNED = ("float16", 1)

Work = Callable[[], Any]
Shapes = tuple[tuple[int, int, int, int], ...]


def main() -> None:
    """Run the parts and write their record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", choices=("bandwidth", "tails", "plans"), help="only this one")
    parser.add_argument("--batch", default="1,8,64", help="batches of the tails")
    parser.add_argument("--rehearse", action="store_true", help="the same steps on a CPU, without the kernels")
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        raise SystemExit("native_gpu.py: PyTorch finds no GPU here, and nothing was measured")
    device: Device = StandIn() if arguments.rehearse else Gpu(Kernels(built_with_cuda("librc_cuda.so")))
    record: dict[str, Any] = {"rehearsal": arguments.rehearse, "machine": machine_of(device)}
    figures = {
        "bandwidth": _bandwidths(device),
        "tails": _all_tails(device, arguments.batch),
        "plans": _all_plans(device),
    }
    for part in [arguments.part] if arguments.part else figures:
        record[part] = {}
        for name, figure in figures[part]:
            record[part][name] = figure
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


class Device(Protocol):
    """Where the work is done, and how its time is taken."""

    name: str  # PyTorch's
    title: str
    large: tuple[int, int, int]  # N, C, positions of the tensors whose bytes are counted
    tails: dict[str, tuple[int, int, int, int]]  # the same, with the hidden layer, of whole tails
    planned: Shapes  # of those that plans are compared on
    rounds: int
    warm_up: int
    repeats: int  # of a work in a round
    kernels: Any

    def seconds(self, work: Work) -> float:
        """Return how long the device takes."""

    def replayed(self, work: Work) -> Work:
        """Return a replay of `work`, `repeats` times, without the cost of its launches."""

    def launches(self, work: Work) -> int:
        """Count the kernels that `work` launches."""

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
        """Return `function` as torch.compile makes it."""


class Gpu:
    """The first CUDA device."""

    name = "cuda"
    large = (256, 256, 56 * 56)  # 411 MB of halves
    tails = LARGE_TAILS
    planned: Shapes = tuple((batch, *planes) for planes in PLANNED for batch in PLANNED_BATCHES)
    rounds, warm_up, repeats = 30, 5, 20

    def __init__(self, kernels: Kernels | None) -> None:
        self.title = torch.cuda.get_device_name()
        self.kernels: Any = kernels

    def seconds(self, work: Work) -> float:
        """Return the time between two events around the work."""
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        end.synchronize()
        return 1e-3 * float(start.elapsed_time(end))

    def replayed(self, work: Work) -> Work:
        """Return the replay of a CUDA graph."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            repeated(self, work)()
        return graph.replay

    def launches(self, work: Work) -> int:
        """Count what the profiler sees on the device, copies apart."""
        work()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            work()
            torch.cuda.synchronize()
        on_device = [event.name for event in record.events() or () if str(event.device_type) == "DeviceType.CUDA"]
        return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device)

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
        """Return it compiled for every shape anew: one for all of them would be slower, a fallback slower still."""
        return torch.compile(function, mode=mode, dynamic=False, fullgraph=True)


class StandIn:
    """A CPU in the GPU's place, with PyTorch in the kernels': the same steps on small tensors, for a rehearsal.

    Its figures say nothing about anything.
    """

    name = "cpu"
    title = "none: a rehearsal on a CPU"
    large = (2, 16, 64)
    tails = dict.fromkeys(LARGE_TAILS, (2, 16, 64, 4))
    planned: Shapes = ((1, 16, 64, 4), (2, 4, 64, 1))
    rounds, warm_up, repeats = 3, 1, 2

    def __init__(self) -> None:
        self.kernels = _PyTorchKernels()

    def seconds(self, work: Work) -> float:
        """Return the wall clock's time."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def replayed(self, work: Work) -> Work:
        """Return the work itself, having done it once."""
        work()
        return repeated(self, work)

    def launches(self, work: Work) -> int:
        """Return none: there is no device."""
        work()
        return 0

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:  # noqa: ARG002
        """Return it traced as for a GPU; no code is generated."""
        return torch.compile(function, backend="eager", dynamic=False, fullgraph=True)


class _PyTorchKernels:
    """What `native_cuda.Kernels` computes, by PyTorch; it needs no workspace, and knows one plan."""

    _blocks = 0

    def gclu(self, x: Tensor, y: Tensor, approximate: str = "none") -> None:
        y.copy_(rc.gclu(x, approximate))

    def response_calibration(self, a: Tensor, mu: Tensor, log_var: Tensor, y: Tensor) -> None:
        y.copy_(rc.response_calibration(a, mu, log_var))

    def calibrated_residual(self, a: Tensor, mu: Tensor, log_var: Tensor, shortcut: Tensor, y: Tensor) -> None:
        y.copy_(torch.relu(rc.response_calibration(a, mu, log_var) + shortcut))

    def workspace(self, a: Tensor) -> Tensor:
        return a.new_empty(1)

    def set_tail_plan(self, blocks: int, threads: int = 0) -> None:  # noqa: ARG002
        self._blocks = blocks

    def calibrated_tail(self, a: Tensor, shortcut: Tensor, weights: list[Tensor], y: Tensor, _: Tensor) -> None:
        if self._blocks > a.shape[1]:
            raise RuntimeError("there is no such plan")
        y.copy_(_eager_tail(a, shortcut, *weights))


def machine_of(device: Device) -> dict[str, str]:
    """Return what the figures were measured on and with."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True).stdout if shutil.which("nvidia-smi") else ""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "device": device.title,
        "gpu": found.strip() or device.title,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
    }


def _bandwidths(device: Device) -> Iterator[tuple[str, Any]]:
    for name, dtype in DTYPES.items():
        yield name, _bandwidth(device, dtype)


def _bandwidth(device: Device, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Bytes moved a second by each operator, and as a share of what a copy in the same turns moves.

    Counted are the readings and writings of tensors that the operator cannot do without: of a whole tail in three
    kernels one more than in one, because A is read for its means and again.
    """
    a, shortcut, y = (torch.randn(device.large, device=device.name).to(dtype) for _ in range(3))
    mu, log_var = (torch.randn(device.large[:2], device=device.name).to(dtype) for _ in range(2))
    kernels = device.kernels
    size = a.numel() * a.element_size()
    works: dict[str, tuple[int, Work]] = {
        "copy": (2 * size, lambda: y.copy_(a)),
        "GCLU": (2 * size, lambda: kernels.gclu(a, y)),
        "GCLU sigmoid": (2 * size, lambda: kernels.gclu(a, y, "sigmoid")),
        "GCLU tanh": (2 * size, lambda: kernels.gclu(a, y, "tanh")),
        "ResponseCalibration": (2 * size, lambda: kernels.response_calibration(a, mu, log_var, y)),
        "CalibratedResidual": (3 * size, lambda: kernels.calibrated_residual(a, mu, log_var, shortcut, y)),
    }
    launches = {}
    for name, shape in device.tails.items():
        tail, size = _large_tail(device, shape, dtype)
        launches[name] = device.launches(tail)
        works[name] = ((3 if launches[name] <= 1 else 4) * size, tail)
    times = in_turns(device, {name: device.replayed(work) for name, (_, work) in works.items()})
    speeds = {name: works[name][0] / np.array(times[name]) for name in works}
    return {
        name: {
            **({"kernels": launches[name]} if name in launches else {}),
            "bytes_counted": works[name][0],
            "median_tb_per_s": float(np.median(speed)) / 1e12,
            "share_of_copy": float(np.median(speed / speeds["copy"])),
            "share_low": float(np.percentile(speed / speeds["copy"], 10)),
            "share_high": float(np.percentile(speed / speeds["copy"], 90)),
        }
        for name, speed in speeds.items()
    }


def _large_tail(device: Device, shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Work, int]:
    """Return a whole tail's work, and the bytes of one of its tensors."""
    *planes, hidden = shape
    a, shortcut, y = (torch.randn(planes, device=device.name).to(dtype) for _ in range(3))
    weights, workspace = _weights(planes[1], hidden, dtype, device), device.kernels.workspace(a)
    return lambda: device.kernels.calibrated_tail(a, shortcut, weights, y, workspace), a.numel() * a.element_size()


def _all_tails(device: Device, batches: str) -> Iterator[tuple[str, Any]]:
    for batch in map(int, batches.split(",")):
        for name in DTYPES:
            yield f"{name}, batch {batch}", _tails(device, name, batch)


def _tails(device: Device, dtype: str, batch: int) -> dict[str, Any]:
    """The 15 tails one after the other: microseconds in a CUDA graph and launched one by one, and kernels."""
    kernels = device.kernels
    operands = []
    for channels, positions, hidden in STAGES:
        for _ in range(BLOCKS):
            shape = (batch, channels, positions)
            a, shortcut, y = (torch.randn(shape, device=device.name).to(DTYPES[dtype]) for _ in range(3))
            weights = _weights(channels, hidden, DTYPES[dtype], device)
            operands.append((a, shortcut, weights, y, kernels.workspace(a)))

    def fused() -> None:
        for a, shortcut, weights, y, workspace in operands:
            kernels.calibrated_tail(a, shortcut, weights, y, workspace)

    def by(tail: Callable[..., Tensor]) -> Work:
        return lambda: [tail(a, shortcut, *weights) for a, shortcut, weights, _, _ in operands]

    torch.compiler.reset()  # else its limit of versions of one function is reached, and it gives up
    works = {"fused": fused, "eager": by(_eager_tail), "compiled": by(device.compiled(_plain_tail, "default"))}
    if (dtype, batch) == AUTOTUNED:
        works["autotuned"] = by(device.compiled(_plain_tail, "max-autotune-no-cudagraphs"))
    with torch.no_grad():
        in_graphs = in_turns(device, {name: device.replayed(work) for name, work in works.items()})
        one_by_one = in_turns(device, {name: repeated(device, works[name]) for name in ("fused", "eager")})
        counts = {name: device.launches(work) for name, work in works.items()}
    return {
        "in_cuda_graphs": _beside_fused(in_graphs),
        "launched_one_by_one": _beside_fused(one_by_one),
        "kernels": counts,
    }


def _all_plans(device: Device) -> Iterator[tuple[str, Any]]:
    for dtype in PLANNED_DTYPES:
        for shape in device.planned:
            yield f"{dtype}, batch {shape[0]}, {shape[1]}x{shape[2]}, hidden {shape[3]}", _plans(device, dtype, shape)


def _plans(device: Device, dtype: str, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Microseconds of one tail by each plan that has room, in CUDA graphs, and how far the rules' is from the best."""
    tail, _ = _large_tail(device, shape, DTYPES[dtype])
    works = {}
    try:
        for plan in PLANS:
            device.kernels.set_tail_plan(*plan)
            with suppress(RuntimeError):  # it has no room
                tail()
                works[_words(plan)] = device.replayed(tail)
    finally:
        device.kernels.set_tail_plan(*BY_THE_RULES)
    times = {name: 1e6 * float(np.median(time)) for name, time in in_turns(device, works).items()}
    best = min(times, key=lambda name: times[name])
    return {"microseconds": times, "best": best, "rules_beside_best": times[_words(BY_THE_RULES)] / times[best]}


def _words(plan: tuple[int, int]) -> str:
    blocks, threads = plan
    if plan == BY_THE_RULES:
        return "by the rules"
    return "three kernels" if blocks < 0 else f"{blocks} blocks of {threads} threads"


def _beside_fused(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    medians = {name: float(np.median(time)) for name, time in times.items()}
    return {
        "microseconds": {name: 1e6 * time for name, time in medians.items()},
        "speedup_of_fused_over": {name: time / medians["fused"] for name, time in medians.items() if name != "fused"},
    }


def _eager_tail(a: Tensor, shortcut: Tensor, *weights: Tensor) -> Tensor:
    """Return the end of a block as rc_deploy.nn computes it: the calibration is one operator."""
    mu, log_var = _statistics(a, *weights)
    return torch.relu(rc.response_calibration(a, mu, log_var) + shortcut)


def _plain_tail(a: Tensor, shortcut: Tensor, *weights: Tensor) -> Tensor:
    """Return the same in PyTorch's own operators, which torch.compile can fuse; it could not look into `rc`'s."""
    mu, log_var = (statistic.float().unsqueeze(2) for statistic in _statistics(a, *weights))
    wide = a.float()
    z = (wide - mu) / (torch.exp(0.5 * log_var) + DEFAULT_EPSILON)
    calibrated = (wide + wide * 0.5 * torch.erfc(z.abs() * 0.5**0.5)).to(a.dtype)
    return torch.relu(calibrated + shortcut)


def _statistics(a: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, ...]:
    hidden = torch.nn.functional.linear(a.mean(dim=2), w1, b1)
    return torch.nn.functional.linear(hidden, w2, b2).chunk(2, dim=1)


def _weights(channels: int, hidden: int, dtype: torch.dtype, device: Device) -> list[Tensor]:
    shapes = [(hidden, channels), (hidden,), (2 * channels, hidden), (2 * channels,)]
    return [(0.1 * torch.randn(shape, device=device.name)).to(dtype) for shape in shapes]


def repeated(device: Device, work: Work) -> Work:
    """Return a work that is `work` as often as the device has it done in a round."""
    return lambda: [work() for _ in range(device.repeats)]


def in_turns(device: Device, works: dict[str, Work]) -> dict[str, list[float]]:
    """Seconds of each work, which is done `repeats` times, all of them in every round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(device.warm_up + device.rounds):
        for name, work in works.items():
            seconds = device.seconds(work) / device.repeats
            if turn >= device.warm_up:
                times[name].append(seconds)
    return times


if __name__ == "__main__":
    main()
