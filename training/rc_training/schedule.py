"""The paper's learning rate: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math

WARMUP_FACTOR = 0.01


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Return the learning rate of one step of the optimiser (Sec. 5.1, with Loshchilov and Hutter's cosine).

    It rises linearly from 0.01 `peak` at step 0 to `peak` at step `warmup_steps`, then falls as half a cosine
    that would reach 0 at step `steps`. It changes at every step, not once per epoch: the values where an
    epoch begins are the same, and recipes of a few epochs stay smooth.

    Args:
        step: from 0 to `steps` - 1.
        steps: of the whole training.
        warmup_steps: fewer than `steps`.
        peak: the recipe's learning rate.
    """
    if step < warmup_steps:
        return peak * (WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))
