"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of normalised batches.

A batch draws once, on the CPU, which of the two it takes and how much of each image remains; the images are then
mixed with their neighbours, 0 with 1, 2 with 3 and so on. In a batch of random order that pairs them at random, and a
process that has an even number of images from an even place on has both images of every pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed.

    Attributes:
        share: of the image itself in every pixel, () float32; 1 for CutMix.
        box: top, bottom, left and right, (4,) int64, of what comes from the neighbour whole; empty for mixup.
        weight: of the image's own label in the loss, () float32; the neighbour's has what is missing from 1.
    """

    share: Tensor
    box: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Mix:
        """Return it on a device."""
        return Mix(self.share.to(device), self.box.to(device), self.weight.to(device))


def draw_mix(mixup: float, cutmix: float, height: int, width: int, generator: Generator) -> Mix | None:
    """Return how to mix the next batch, on the CPU; None where both are off.

    Args:
        mixup: of the distribution Beta(alpha, alpha) of mixup's share; 0 turns it off.
        cutmix: the same, of CutMix's share. With both on, the batch takes either with probability 1/2.
        height: of the images.
        width: of the images.
        generator: on the CPU.
    """
    if not mixup and not cutmix:
        return None
    # PyTorch's Beta distribution takes no generator; NumPy's does.
    draws = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    cuts = draws.random() < 0.5 if mixup and cutmix else bool(cutmix)
    share = float(draws.beta(*(cutmix, cutmix) if cuts else (mixup, mixup)))
    if not cuts:
        return Mix(torch.tensor(share), torch.zeros(4, dtype=torch.int64), torch.tensor(share))
    side = math.sqrt(1 - share)
    top, bottom = _around(int(draws.integers(height)), int(height * side), height)
    left, right = _around(int(draws.integers(width)), int(width * side), width)
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return Mix(torch.tensor(1.0), torch.tensor([top, bottom, left, right]), torch.tensor(weight))


def mix(images: Tensor, labels: Tensor, how: Mix) -> tuple[Tensor, Tensor]:
    """Return images mixed with their neighbours, and the neighbours' labels.

    The loss is weight * loss(logits, labels) + (1 - weight) * loss(logits, neighbours' labels). Mixup and CutMix are
    one formula here, without a decision on the CPU, so that a captured graph holds for both.

    Args:
        images: (N, C, H, W) normalised; of an odd number, the last stays as it is.
        labels: (N,).
        how: on the images' device.
    """
    count, _, height, width = images.shape
    neighbour = torch.arange(count, device=images.device) ^ 1
    neighbour = torch.where(neighbour < count, neighbour, count - 1)
    others = images[neighbour]
    row, column = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    top, bottom, left, right = how.box.unbind()
    cut = ((row >= top) & (row < bottom))[:, None] & ((column >= left) & (column < right))
    mixed = torch.where(cut, others, how.share * images + (1 - how.share) * others)
    return mixed, labels[neighbour]


def _around(centre: int, length: int, end: int) -> tuple[int, int]:
    """Return an interval of that length around `centre`, cut to 0 to `end`."""
    return max(centre - length // 2, 0), min(centre + length // 2, end)
