"""Time whole networks in PyTorch on a GPU and count what they launch: python benchmarks/networks_gpu.py OUTPUT.json.

ResNet-32 and ResCNet-32 on 32x32 images, without gradients: eager, eager in a CUDA graph, compiled, and compiled in a
CUDA graph, all in turns. Inputs stay on the device. --rehearse takes the same way with a small network on a CPU; its
figures say nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import native_gpu
from native_gpu import Gpu, StandIn
from rc_deploy.files import write_json
from rc_training.models import create

if TYPE_CHECKING:
    from native_gpu import Device, Work

DEPTH, REHEARSED_DEPTH = 32, 8
# What is claimed of the most comes first.
NETWORKS, BATCHES = ("rescnet", "resnet"), (1, 64)
TYPES = {"float16": torch.float16, "float32": torch.float32}


def main() -> None:
    """Measure, or rehearse, and write one record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="a small network on a CPU, as a rehearsal")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        raise SystemExit("networks_gpu.py: PyTorch finds no GPU here, and nothing was measured")
    device: Device = StandIn() if options.rehearse else Gpu(kernels=None)
    found: dict[str, Any] = {}
    record = {"rehearsal": options.rehearse, "machine": native_gpu.machine_of(device), "networks": found}
    depth = REHEARSED_DEPTH if options.rehearse else DEPTH
    cases = [(f"{name}{depth}", kind, batch) for kind in TYPES for name in NETWORKS for batch in BATCHES]
    for name, kind, batch in cases[:1] if options.rehearse else cases:
        found[f"{name}, {kind}, batch {batch}"] = measured(device, name, TYPES[kind], batch)
        write_json(options.output, record)  # what is stopped leaves what it had


def measured(device: Device, name: str, kind: torch.dtype, batch: int) -> dict[str, Any]:
    """Return milliseconds, how many times as fast as eager, and kernels of every way to run a network."""
    torch.compiler.reset()
    network = create(name).eval().to(device=device.name, dtype=kind, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, 32, 32, device=device.name).to(kind, memory_format=torch.channels_last)
    compiled = device.compiled(network, "default")
    ways: dict[str, Work] = {"eager": lambda: network(images), "compiled": lambda: compiled(images)}
    with torch.no_grad():
        works = {name: native_gpu.repeated(device, work) for name, work in ways.items()}
        works |= {f"{name} in a CUDA graph": device.replayed(work) for name, work in ways.items()}
        times = {name: float(np.median(taken)) for name, taken in native_gpu.in_turns(device, works).items()}
        launches = {name: device.launches(work) for name, work in ways.items()}
    return {
        "milliseconds": {name: 1e3 * time for name, time in times.items()},
        "speedup_over_eager": {name: times["eager"] / time for name, time in times.items() if name != "eager"},
        "kernels": launches,
    }


if __name__ == "__main__":
    main()
