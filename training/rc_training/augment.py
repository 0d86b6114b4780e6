"""Augmentations of whole batches, by name.

What is random is drawn first, on the CPU, as numbers in [0, 1): one row for each image, some columns for each
augmentation. Applying them is then a function of images and numbers alone, image by image: a seed gives the same
augmentation on any device, and a process that has a part of a batch takes that part of the numbers.

    numbers = draw(names, len(batch), generator)                # of the whole batch, the same in every process
    pixels = prepare(images[part], names, numbers[part], spec)  # of a part of it

Images are (N, C, H, W) of pixel values 0 to 255, uint8 or float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from rc_training.autoaugment import COLUMNS, autoaugment
from rc_training.datasets import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from rc_deploy.specs import InputSpec

CROP_PADDING = 4
LARGEST_ANGLE, LARGEST_SHIFT, LARGEST_SCALING = math.radians(10), 0.1, 0.1
ERASE_PROBABILITY, ERASE_AREA, ERASE_RATIO = 0.5, (0.0625, 0.1), (0.99, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """One augmentation.

    Attributes:
        apply: takes images and numbers (N, columns) in [0, 1), on the images' device or the CPU; returns images of
            the same shape.
        columns: how many numbers it takes for an image.
        after: whether it is for normalised images.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    columns: int
    after: bool = False


def draw(names: Sequence[str], count: int, generator: Generator) -> Tensor:
    """Return the random numbers (count, columns) in [0, 1) of augmentations, float32 on the CPU."""
    return torch.rand(count, sum(AUGMENTATIONS[name].columns for name in names), generator=generator)


def augment(images: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    """Return `images` after the augmentations called `names` (keys of `AUGMENTATIONS`), in that order."""
    return apply(images, names, draw(names, len(images), generator))


def apply(images: Tensor, names: Sequence[str], numbers: Tensor) -> Tensor:
    """Return `images` after the augmentations called `names`, in that order, with numbers from `draw`."""
    for augmentation, own in _steps(names, numbers):
        images = augmentation.apply(images, own)
    return images


def prepare(images: Tensor, names: Sequence[str], numbers: Tensor, spec: InputSpec) -> Tensor:
    """Return what the network is trained on: augmented, normalised, and augmented by what comes after that.

    Args:
        images: (N, C, H, W) uint8.
        names: keys of `AUGMENTATIONS`; those for normalised images come last, whatever their place.
        numbers: (N, columns) from `draw` with the same names.
        spec: what the network takes.
    """
    steps = _steps(names, numbers)
    for augmentation, own in steps:
        if not augmentation.after:
            images = augmentation.apply(images, own)
    images = normalise(images, spec)
    for augmentation, own in steps:
        if augmentation.after:
            images = augmentation.apply(images, own)
    return images


def _steps(names: Sequence[str], numbers: Tensor) -> list[tuple[Augmentation, Tensor]]:
    """Return each augmentation with its columns of the numbers."""
    used = [AUGMENTATIONS[name] for name in names]
    return list(zip(used, torch.split(numbers, [one.columns for one in used], dim=1), strict=True))


def crop(images: Tensor, numbers: Tensor) -> Tensor:
    """Shift each image by up to 4 pixels along each axis; black comes in at the edges."""
    # A number in [0, 1) of float32 times n, rounded to float32, stays below n.
    top, left = (numbers * (2 * CROP_PADDING + 1)).long().to(images.device).unbind(1)
    return crop_at(images, top, left)


def crop_at(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Cut each image back to its size from its zero-padded copy.

    Args:
        images: (N, C, H, W).
        top: first row (N,) int64, 0 to 8, of the copy padded by 4 on every side.
        left: first column (N,), likewise.
    """
    count, _, height, width = images.shape
    windows = F.pad(images, (CROP_PADDING,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    # All 81 windows of an image are views: one is copied, row by row, not gathered pixel by pixel.
    return windows[torch.arange(count, device=images.device), :, top, left]


def flip(images: Tensor, numbers: Tensor) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    count = len(images)
    mirrored = (numbers[:, 0] < 0.5).to(images.device)
    chosen = torch.arange(count, device=images.device) + count * mirrored
    # On a CPU four times as fast as `where`: whole images are copied.
    return torch.cat([images, images.flip(3)]).index_select(0, chosen)


def affine(images: Tensor, numbers: Tensor) -> Tensor:
    """Rotate by up to 10 degrees, shift by up to a tenth of the size, scale by 0.9 to 1.1; returns float32.

    Pixels come from bilinear interpolation, black from outside.
    """
    if not len(images):  # a small batch may leave a process without any, and PyTorch makes no grid for none
        return images.float()
    height, width = images.shape[2:]
    turn, right, down, size = (2 * numbers - 1).to(images.device).unbind(1)
    angle, scale = turn * LARGEST_ANGLE, 1 + size * LARGEST_SCALING
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # From a place in the result back to one in the image, in units of pixels: x' = R^-1 (x - shift) / scale.
    x, y = right * LARGEST_SHIFT * width, down * LARGEST_SHIFT * height
    rows = (
        torch.stack([cos, sin * height / width, -(cos * x + sin * y) * 2 / width], dim=1),
        torch.stack([-sin * width / height, cos, (sin * x - cos * y) * 2 / height], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False)


def random_erasing(images: Tensor, numbers: Tensor) -> Tensor:
    """Set a rectangle of a normalised image to 0, the mean colour, with probability 1/2 (Zhong et al., 2020).

    Its area is uniform from 0.0625 to 0.1 of the image's, the logarithm of its height over its width uniform from
    log 0.99 to 0, and its place uniform among those inside the image.
    """
    height, width = images.shape[2:]
    # Sides are rounded in float64, where no device's last bit decides.
    chance, area, shape, down, right = numbers.to(images.device, torch.float64)[:, :, None].unbind(1)
    pixels = height * width * _between(area, *ERASE_AREA)
    ratio = _between(shape, *map(math.log, ERASE_RATIO)).exp()
    high = (pixels * ratio).sqrt().round().clamp(max=height)
    wide = (pixels / ratio).sqrt().round().clamp(max=width)
    top, left = (down * (height - high + 1)).floor(), (right * (width - wide + 1)).floor()
    row, column = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (row >= top) & (row < top + high) & (chance < ERASE_PROBABILITY)
    columns = (column >= left) & (column < left + wide)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _between(number: Tensor, low: float, high: float) -> Tensor:
    return low + number * (high - low)


AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": Augmentation(crop, 2),
    "flip": Augmentation(flip, 1),
    "affine": Augmentation(affine, 4),
    "autoaugment": Augmentation(autoaugment, COLUMNS),
    "random_erasing": Augmentation(random_erasing, 5, after=True),
}
