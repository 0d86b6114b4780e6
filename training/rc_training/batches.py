"""The batches of a training run: which images, in which order, augmented and mixed how.

Every draw comes from one generator on the CPU, and is made for the whole batch, of which a process then reads and
augments its part: so the result depends neither on the device nor on the number of processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rc_training.augment import draw, prepare
from rc_training.distributed import current
from rc_training.mix import draw_mix, mix
from rc_training.step import Batch, Mixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from rc_deploy.specs import InputSpec
    from rc_training.recipe import Recipe
    from rc_training.splits import Split


class Batches:
    """Makes the batches of one epoch after another: `steps` of them, with `images` in all.

    Args:
        split: what to train on.
        recipe: what is done with it.
        spec: what the network takes.
        draws: decides everything random; where it stands between two epochs is all there is to remember.
    """

    def __init__(self, split: Split, recipe: Recipe, spec: InputSpec, draws: Generator) -> None:
        self._split, self._recipe, self._spec, self.draws = split, recipe, spec, draws
        self.images = len(split)
        self.steps = -(-self.images // recipe.batch_size)

    def epoch(self) -> Iterator[Batch]:
        """Yield each image once, in a new order; of each batch, this process's part."""
        order, size = torch.randperm(self.images, generator=self.draws), self._recipe.batch_size
        parts = self._split.batches(order, size, current().part, self.seed())
        for start, (images, labels) in zip(range(0, self.images, size), parts, strict=True):
            yield self._batch(images, labels, min(size, self.images - start))

    def seed(self) -> int:
        """Draw a seed for what has a generator of its own."""
        return int(torch.randint(2**62, (), generator=self.draws))

    def _batch(self, images: Tensor, labels: Tensor, whole: int) -> Batch:
        recipe = self._recipe
        numbers = draw(recipe.augment, whole, self.draws)[current().part(whole)]
        prepared = prepare(images, recipe.augment, numbers, self._spec)
        how = draw_mix(recipe.mixup, recipe.cutmix, *self._spec.shape[1:], self.draws)
        if how is None:
            return Batch(prepared, labels, None, normalised=True, whole=whole)
        how = how.to(images.device)
        prepared, others = mix(prepared, labels, how)
        return Batch(prepared, labels, Mixed(others, how.weight), normalised=True, whole=whole)
