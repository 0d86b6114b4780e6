"""The learning rate of every step: linear warm-up, then half a cosine or steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rc_training.recipe import Recipe

WARMUP_FACTOR = 0.01


def learning_rate(recipe: Recipe, step: int, epoch_steps: int) -> float:
    """Return the learning rate of one step of the optimiser (Sec. 5.1).

    It rises linearly from 0.01 of the recipe's `learning_rate` at step 0 to all of it where the warm-up ends, then
    follows the recipe's schedule. It changes at every step, not once per epoch: the values where an epoch begins are
    the same, and recipes of a few epochs stay smooth.

    Args:
        recipe: what to train and how.
        step: from 0 to the last of the whole training.
        epoch_steps: steps of one epoch.
    """
    warmup_steps = recipe.warmup_epochs * epoch_steps
    if step < warmup_steps:
        return recipe.learning_rate * (WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / warmup_steps)
    return SCHEDULES[recipe.schedule](recipe, step, epoch_steps)


def cosine(recipe: Recipe, step: int, epoch_steps: int) -> float:
    """Fall as half a cosine (Loshchilov and Hutter's) that would reach the minimum one step after the last."""
    passed = step - recipe.warmup_epochs * epoch_steps
    steps = (recipe.epochs - recipe.warmup_epochs) * epoch_steps
    height = recipe.learning_rate - recipe.min_learning_rate
    return recipe.min_learning_rate + height * 0.5 * (1 + math.cos(math.pi * passed / steps))


def steps(recipe: Recipe, step: int, epoch_steps: int) -> float:
    """Multiply by `step_factor` every `step_epochs` epochs, counted from the first epoch of the training."""
    falls = step // (recipe.step_epochs * epoch_steps)
    return recipe.learning_rate * recipe.step_factor**falls


SCHEDULES: dict[str, Callable[[Recipe, int, int], float]] = {"cosine": cosine, "step": steps}
