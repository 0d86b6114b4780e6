"""Training steps a second beside a plain PyTorch loop, in turns: python benchmarks/training_step.py [--device cuda].

The plain loop is what one writes first: a DataLoader with per-image transforms of Pillow images, networks in PyTorch's
default layout, the RC layer and GCLU in operators that autograd differentiates, SGD as it comes. Images are noise of
CIFAR-10's shape: what is in them costs nothing. Each turn takes some steps. The plain loop takes steps before the clock
starts, too: until what its workers fetched while others had their turn is used up, and they are as far ahead as they
stay. Of 0, 1 and 2 workers it has the number that is fastest.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rc_deploy import machine
from rc_deploy.files import write_json
from rc_deploy.nn import GCLU, ResponseCalibration
from rc_training.augment import draw, prepare
from rc_training.datasets import DATASETS
from rc_training.models import create
from rc_training.step import Batch, Step, StepOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SPEC = DATASETS["cifar10"].input
IMAGES = 4096
AUGMENT = ("crop", "flip")
WARM_UP_STEPS = 4  # the fourth records a CUDA graph
WAYS = {
    "eager": StepOptions(),
    "compile": StepOptions(compile=True),
    "graph": StepOptions(cuda_graph=True),
    "compile+graph": StepOptions(compile=True, cuda_graph=True),
    "bf16": StepOptions(precision="bfloat16"),
    "bf16+graph": StepOptions(precision="bfloat16", cuda_graph=True),
    "bf16+compile+graph": StepOptions(precision="bfloat16", compile=True, cuda_graph=True),
}


@dataclass
class Contestant:
    """One way to train one network: `turn(steps)` trains and returns the seconds it took."""

    network: str
    way: str
    turn: Callable[[int], float]


# The plain loop.


class PlainCalibration(nn.Module):
    """The RC layer as its equations read (Eq. 2-5)."""

    def __init__(self, layer: ResponseCalibration) -> None:
        super().__init__()
        self.squeeze, self.mean, self.log_var = layer.squeeze, layer.mean, layer.log_var
        self.epsilon = layer.epsilon

    def forward(self, a: Tensor) -> Tensor:
        """Return a + RC(a)."""
        hidden = self.squeeze(a.mean((2, 3)))
        mu, std = self.mean(hidden)[:, :, None, None], torch.exp(self.log_var(hidden) / 2)[:, :, None, None]
        z = (a - mu) / (std + self.epsilon)
        below = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
        return a + a * torch.where(z < 0, below, 1 - below)


class PlainGCLU(nn.Module):
    """GCLU as its equation reads (Eq. 6)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return GCLU(x)."""
        below = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return torch.where(x > 0, x * (2 - below), x * below)


def plain(network: nn.Module) -> nn.Module:
    """Return `network` with this project's operators replaced."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ResponseCalibration):
                setattr(parent, name, PlainCalibration(child))
            elif isinstance(child, GCLU):
                setattr(parent, name, PlainGCLU())
    return network


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them, with its RandomCrop(32, padding=4), flip, ToTensor and Normalize."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self._images, self._labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
        self._mean, self._std = (torch.tensor(values)[:, None, None] for values in (SPEC.mean, SPEC.std))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = ImageOps.expand(Image.fromarray(self._images[index]), border=4, fill=0)
        top, left = random.randint(0, 8), random.randint(0, 8)  # noqa: S311 (no secret)
        picture = picture.crop((left, top, left + 32, top + 32))
        if random.random() < 0.5:  # noqa: S311
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(self._mean).div_(self._std), int(self._labels[index])


def plain_loop(
    name: str, activation: str, workers: int, data: Pictures, batch: int, device: torch.device
) -> Contestant:
    """Return the plain loop with that many workers."""
    network = plain(create(name, activation=activation)).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4)
    loader = DataLoader(
        data, batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )  # fmt: skip

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def train(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            images, labels = (tensor.to(device, non_blocking=True) for tensor in next(batches))
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()
        return time.perf_counter() - start

    def turn(steps: int) -> float:
        if workers:
            train(4 * workers)  # a loader fetches two batches a worker ahead
        seconds = train(steps)
        time.sleep(0.5 * (workers > 0))  # until its workers have nothing to do
        return seconds

    return Contestant(name, f"plain, {workers} workers", turn)


# This project's.


def step_loop(name: str, activation: str, way: str, images: Tensor, labels: Tensor, batch: int) -> Contestant:
    """Return rc_training's steps with the options called `way`; the data set is on the device."""
    network = create(name, activation=activation)
    network.to(images.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4)
    step = Step(network, optimizer, SPEC, WAYS[way])
    draws = torch.Generator().manual_seed(0)

    def turn(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch,), generator=draws).to(images.device)
            pixels = prepare(images[chosen], AUGMENT, draw(AUGMENT, batch, draws), SPEC)
            result = step(Batch(pixels, labels[chosen], normalised=True), 0.1)
        result.loss.item()
        return time.perf_counter() - start

    return Contestant(name, way, turn)


def best_plain(name: str, activation: str, data: Pictures, batch: int, steps: int, device: torch.device) -> Contestant:
    """Return the plain loop with the number of workers, 0 to 2, that was fastest in turns of its own."""
    loops = [plain_loop(name, activation, workers, data, batch, device) for workers in (0, 1, 2)]
    times = [min([loop.turn(steps) for _ in range(3)][1:]) for loop in loops]
    return loops[int(np.argmin(times))]


def main() -> None:
    """Measure and print; `--json FILE` keeps every turn's time."""
    options = _options()
    device = torch.device(options.device)
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (IMAGES, 3, 32, 32), np.uint8), draws.integers(0, 10, IMAGES)
    pictures = Pictures(images, labels)
    on_device = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    ways = options.ways.split(",") if options.ways else list(WAYS) if device.type == "cuda" else ["eager"]
    contestants = []
    for name in options.networks.split(","):
        contestants.append(best_plain(name, options.activation, pictures, options.batch, options.steps, device))
        contestants += [step_loop(name, options.activation, way, *on_device, options.batch) for way in ways]
    for contestant in contestants:
        contestant.turn(WARM_UP_STEPS)
    times = np.array([[c.turn(options.steps) for c in contestants] for _ in range(options.rounds)]).T / options.steps
    found: dict[str, Any] = {name: {} for name in options.networks.split(",")}
    for contestant, column in zip(contestants, times, strict=True):
        found[contestant.network][contestant.way] = column
    _print(found, options)
    if options.json:
        turns = {name: {way: list(column) for way, column in ways.items()} for name, ways in found.items()}
        write_json(options.json, {"machine": machine.facts(), "options": _words(options), "seconds_per_step": turns})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--networks", default="resnet8,rescnet8,resnet32,rescnet32")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--ways", help=f"of {', '.join(WAYS)}; all on CUDA, eager on a CPU")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _words(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if key != "json"}


def _print(found: dict[str, Any], options: argparse.Namespace) -> None:
    """Print medians and, in brackets, quartiles: of images a second, of a step, and of ratios within a round."""
    threads = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"PyTorch {torch.__version__}, {options.device}, {threads}, batch {options.batch}, {options.activation}, "
          f"{options.rounds} turns of {options.steps} steps")  # fmt: skip
    for name, ways in found.items():
        reference = next(iter(ways.values()))
        for way, times in ways.items():
            print(f"{name:10} {way:20} {_spread(options.batch / times, ',.0f')} images/s"
                  f"  {_spread(1000 * times, '.1f')} ms  x {_spread(reference / times, '.2f')}")  # fmt: skip
    for name, ways in found.items():
        other = found.get(name.replace("rescnet", "resnet"))
        if name.startswith("rescnet") and other is not None:
            for (way, times), base in zip(ways.items(), other.values(), strict=True):
                print(f"{name:10} {way:20} takes {_spread(100 * (times / base - 1), '+.0f')}% longer than the ResNet")


def _spread(values: NDArray[np.float64], form: str) -> str:
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
