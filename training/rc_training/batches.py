"""The batches of a training run: which images, in which order, augmented and mixed how.

Every draw comes from one generator on the CPU, and is made for the whole batch, whichever part of it a process then
takes (`Step`): so the result depends neither on the device nor on the number of processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rc_training.augment import augment
from rc_training.step import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from rc_training.recipe import Recipe


class Batches:
    """Makes the batches of one epoch after another: `steps` of them, with `images` in all.

    Args:
        images: the training split, (N, C, H, W) uint8.
        labels: (N,) int64.
        recipe: what is done with them.
        draws: decides everything random; where it stands between two epochs is all there is to remember.
    """

    def __init__(self, images: Tensor, labels: Tensor, recipe: Recipe, draws: Generator) -> None:
        self._images, self._labels, self._recipe, self.draws = images, labels, recipe, draws
        self.images = len(images)
        self.steps = -(-self.images // recipe.batch_size)

    def epoch(self) -> Iterator[Batch]:
        """Yield each image once, in a new order."""
        order = torch.randperm(self.images, generator=self.draws)
        for chosen in torch.split(order.to(self._labels.device), self._recipe.batch_size):
            yield self._batch(chosen)

    def _batch(self, chosen: Tensor) -> Batch:
        pixels = augment(self._images[chosen], self._recipe.augment, self.draws)
        return Batch(pixels, self._labels[chosen])
