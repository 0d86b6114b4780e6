"""Measuring how much a reference network enlarges rounding errors: the condition number kappa of `tolerances`.

It is measured on the reference alone, so that no fault of an artefact can widen its own tolerance:

- A PyTorch reference is run in float64 beside its float32. Its own rounding error, relative to the logits, over the
  sqrt(V) that the table of roundings predicts for one float32 program, is kappa.
- A reference that cannot run in float64 (an ONNX file) has its input disturbed by a small relative error instead;
  kappa is the relative change of the logits over that of the input.

A value below 1 is taken as 1: that a network averages errors out is not relied upon, because the errors of rounded
weights are the same at every position and do not average out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from rc_deploy.runners import Runner
    from rc_deploy.tolerances import Rounding

# Far above float32's roundoff (2^-24), so that rounding does not blur the result, and small enough for a network to
# be linear in it.
PERTURBATION = 2.0**-10


def condition(reference: Runner, images: NDArray[np.float32], roundings: Iterable[Rounding]) -> float:
    """Return kappa of a reference.

    Args:
        reference: entered.
        images: normalised images (N, C, H, W) to measure on.
        roundings: of its graph.

    Returns:
        The condition number; at least 1.
    """
    found = reference.run(images).astype(np.float64)
    exact = reference.run_float64(images)
    if exact is None:
        return max(1.0, _sensitivity(reference, images, found))
    predicted = math.sqrt(sum(rounding.float32_variance() for rounding in roundings))
    return max(1.0, _relative(found, exact) / predicted)


def _sensitivity(reference: Runner, images: NDArray[np.float32], logits: NDArray[np.float64]) -> float:
    """Return the relative change of the logits over that of the input."""
    noise = np.random.default_rng(0).standard_normal(images.shape, np.float32)
    moved = images * (1 + np.float32(PERTURBATION) * noise)
    change = _relative(reference.run(moved).astype(np.float64), logits)
    return change / _relative(moved.astype(np.float64), images.astype(np.float64))


def _relative(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
