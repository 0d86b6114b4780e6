"""Time one training step of ResNet-8 and ResCNet-8 with ReLU and GCLU, in turns: python benchmarks/training_step.py."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rc_training.models import create

NETWORKS = [(name, activation) for name in ("resnet8", "rescnet8") for activation in ("relu", "gclu")]
BATCH, ROUNDS, WARM_UP = 128, 20, 3


def main() -> None:
    """Print the median time of a step with its quartiles, in milliseconds."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    networks = [create(name, activation=activation) for name, activation in NETWORKS]
    for network in networks:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times = [[_step(network, images, labels) for network in networks] for _ in range(WARM_UP + ROUNDS)]
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, {ROUNDS} rounds in turns")
    for (name, activation), column in zip(NETWORKS, np.array(times[WARM_UP:]).T, strict=True):
        low, median, high = 1000 * np.percentile(column, (25, 50, 75))
        print(f"{name:10} {activation:5} {median:7.1f} ms ({low:.1f} to {high:.1f})")


def _step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
