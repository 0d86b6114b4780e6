"""Measuring how much a reference network enlarges rounding errors: the condition number kappa of `tolerances`.

It is measured on the reference alone, so that no fault of an artefact can widen its own tolerance:

- A PyTorch reference is run in float64 beside its float32. Its own rounding error, relative to the logits, over the
  one that its roundings predict for a float32 program, is kappa.
- A reference that cannot run in float64 (an ONNX file) has its input disturbed by a small relative error instead;
  kappa is the relative change of the logits over that of the input.

A value below 1 is taken as 1: that a network averages errors out is not relied upon, because the errors of rounded
weights are the same at every position and do not average out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.errors import InputError

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
        roundings: of the reference.

    Returns:
        The condition number; at least 1.

    Raises:
        InputError: nothing can be held against this reference: its logits are not finite, are all zero, or change
            from run to run.
    """
    found = _repeatable(reference, images).astype(np.float64)
    exact = reference.run_float64(images)
    if exact is None:
        return max(1.0, _sensitivity(reference, images, found))
    predicted = math.sqrt(sum(rounding.float32_variance() for rounding in roundings))
    return max(1.0, relative(found, exact) / predicted)


def _repeatable(reference: Runner, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the reference's logits, which two runs give alike. Raises InputError as `condition`."""
    first, second = reference.run(images), reference.run(images)
    advice = "Give a network that was trained to the end; `rc-deploy inspect` shows what the file holds."
    if not np.isfinite(first).all():
        raise InputError("The reference gives logits that are not finite: its own weights are at fault.", advice)
    if not first.any():
        raise InputError("The reference gives nothing but zeros: an artefact cannot be told from it.", advice)
    if not np.array_equal(first, second):
        raise InputError("The reference gives other logits each time it runs on the same images.", advice)
    return first


def _sensitivity(reference: Runner, images: NDArray[np.float32], logits: NDArray[np.float64]) -> float:
    """Return the relative change of the logits over that of the input."""
    noise = np.random.default_rng(0).standard_normal(images.shape, np.float32)
    moved = images * (1 + np.float32(PERTURBATION) * noise)
    change = relative(reference.run(moved).astype(np.float64), logits)
    return change / relative(moved.astype(np.float64), images.astype(np.float64))


def relative(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return |found - exact| / |exact|, Euclidean norms over everything; 0 where both are zeros."""
    size, error = float(np.linalg.norm(exact)), float(np.linalg.norm(found - exact))
    return error / size if size else math.inf if error else 0.0


def unevenness(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return how many times the largest error is that of as many Gaussian errors of the same root mean square.

    Of n Gaussian values the largest is about sqrt(2 ln(2 n)) times their root mean square. Channels and positions of a
    layer differ in size, and their errors with them; then it is more.

    Returns:
        At least 1.
    """
    error = np.abs(found - exact)
    level = float(np.sqrt(np.mean(np.square(error)))) * math.sqrt(2 * math.log(2 * error.size))
    return max(1.0, float(error.max()) / level) if level else 1.0
