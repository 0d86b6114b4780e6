"""Augmentations of whole batches, by name.

Each takes images (N, C, H, W) of pixel values 0 to 255, uint8 or float, on any device, and returns the same
shape on the same device. Every random draw comes from a generator on the CPU, so that a seed gives the same
augmentation whatever device the images are on.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

CROP_PADDING = 4


def augment(images: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    """Return `images` after the augmentations called `names` (keys of `AUGMENTATIONS`), in that order."""
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to 4 pixels along each axis; black comes in at the edges."""
    offsets = torch.randint(0, 2 * CROP_PADDING + 1, (2, len(images)), generator=generator)
    top, left = offsets.to(images.device)
    return crop_at(images, top, left)


def crop_at(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Cut each image back to its size from its zero-padded copy.

    Args:
        images: (N, C, H, W).
        top: first row (N,) int64, 0 to 8, of the copy padded by 4 on every side.
        left: first column (N,), likewise.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (CROP_PADDING,) * 4)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)


def affine(images: Tensor, generator: Generator) -> Tensor:
    """Rotate by up to 10 degrees, shift by up to a tenth of the size, scale by 0.9 to 1.1; returns float32.

    Raises:
        MissingDependencyError: Kornia is not installed.
    """
    transform = _random_affine()
    # Kornia draws from PyTorch's global CPU generator: lend it a seed of ours and put its state back.
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        result: Tensor = transform(images.float())
    return result


@cache
def _random_affine() -> Any:
    kornia = require("kornia.augmentation", "The augmentation 'affine'")
    return kornia.RandomAffine(degrees=10.0, translate=(0.1, 0.1), scale=(0.9, 1.1))


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "crop": crop,
    "flip": flip,
    "affine": affine,
}
