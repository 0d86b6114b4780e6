"""Inputs made to break things: what real images never show, and sizes of batches that nobody tries.

All of them go through artefact and reference in one batch, so that an image that is not a number would be seen to
spoil its neighbours. Where the reference's logits are numbers, the artefact's must be within the tolerance of that
image; where they are none, so must the artefact's be: a NaN that comes out as a class would be believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy import tolerances
from rc_deploy.compare import absolute_error
from rc_deploy.condition import relative

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from rc_deploy.specs import BatchRange, InputSpec, Precision
    from rc_deploy.tolerances import Rounding

    Images = NDArray[np.float32]

# Precisions that hold every image but those beyond float16's range, and those that hold these too. The others saturate
# beyond the range they were calibrated for, and know no NaN: they must give numbers where the reference does, no more.
FLOATING, WIDE = {"fp32", "fp16", "bf16"}, {"fp32", "bf16"}
# A batch that is a multiple of nothing a library would tile by.
ODD_BATCH = 37
_HUGE, _TINY, _SUBNORMAL = 1e4, 1e-30, 1e-40


@dataclass(frozen=True)
class Case:
    """One image (C, H, W), normalised, that may break something; `wide` if activations may leave float16's range."""

    name: str
    image: Images
    wide: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one case showed.

    Attributes:
        name: of the case.
        expected: "numbers" or "no numbers", as the reference's logits are.
        max_error: largest absolute error of its logits; None where there are no numbers to compare, or none need be.
        bound: that it must keep; None where there is none.
        passed: whether the artefact did right.
    """

    name: str
    expected: str
    max_error: float | None
    bound: float | None
    passed: bool


def cases(spec: InputSpec) -> list[Case]:
    """Return the fixed set for networks of this input; it is the same every time."""
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (spec.mean, spec.std))
    low, high = np.broadcast_to(-mean / std, spec.shape), np.broadcast_to((1 - mean) / std, spec.shape)
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(spec.shape, np.float32)
    _, height, width = spec.shape
    board = np.indices((height, width)).sum(axis=0) % 2 == 0
    numbers = [
        Case("zeros", np.zeros(spec.shape, np.float32)),
        Case("black", low),
        Case("white", high),
        Case("checkerboard of black and white", np.where(board, high, low)),
        Case("every value at one end of its range", np.where(generator.random(spec.shape) < 0.5, low, high)),
        Case("one white pixel on black", _with_pixel(low, high[:, 0, 0])),
        Case("one black pixel on white", _with_pixel(high, low[:, 0, 0])),
        Case(f"noise of {_TINY:g}", noise * np.float32(_TINY)),
        Case(f"subnormal noise of {_SUBNORMAL:g}", noise * np.float32(_SUBNORMAL)),
        Case(f"noise of {_HUGE:g}", noise * np.float32(_HUGE), wide=True),
    ]
    none = [
        Case("NaN everywhere", np.full(spec.shape, np.nan, np.float32)),
        Case("one NaN pixel", _with_pixel(noise, np.nan)),
        Case("one pixel of infinity", _with_pixel(noise, np.inf)),
        Case("one pixel of minus infinity", _with_pixel(noise, -np.inf)),
    ]
    return [*numbers, *none]


def _with_pixel(image: Images, value: Images | float) -> Images:
    changed = image.copy()
    changed[:, image.shape[1] // 2, image.shape[2] // 2] = value
    return changed


def images_of(found: Iterable[Case]) -> Images:
    """Return the cases as one batch (N, C, H, W)."""
    return np.stack([case.image for case in found]).astype(np.float32)


def condition(
    logits: NDArray[np.float32], exact: NDArray[np.float64] | None, roundings: Iterable[Rounding], least: float
) -> float:
    """Return the condition number of the reference on these images: the largest of theirs, and `least` at least.

    Args:
        logits: the reference's (N, K).
        exact: the same in float64; None where it cannot compute that.
        roundings: of the reference.
        least: the condition number on real images.
    """
    predicted = math.sqrt(sum(rounding.float32_variance() for rounding in roundings))
    if exact is None or not predicted:
        return least
    grown = [relative(row.astype(np.float64), true) / predicted for row, true in zip(logits, exact, strict=True)]
    return max([least, *(kappa for kappa in grown if math.isfinite(kappa))])


def judge(
    found: list[Case],
    reference: NDArray[np.float32],
    artefact: NDArray[np.float32],
    roundings: list[Rounding],
    precision: Precision,
    kappa: float,
) -> tuple[Outcome, ...]:
    """Say of each case whether the artefact did right.

    Args:
        found: the cases.
        reference: its logits (N, K), a row for each.
        artefact: its logits (N, K).
        roundings: of the reference.
        precision: of the artefact.
        kappa: condition number of the reference on these images.
    """
    outcomes = []
    for case, expected, logits in zip(found, reference, artefact, strict=True):
        if not np.isfinite(expected).all():
            passed = precision not in FLOATING or not np.isfinite(logits[~np.isfinite(expected)]).any()
            outcomes.append(Outcome(case.name, "no numbers", None, None, passed))
        elif precision in (WIDE if case.wide else FLOATING):
            bound = tolerances.derive(roundings, precision, expected[None], kappa).maximum
            error = float(absolute_error(expected[None].astype(np.float64), logits[None].astype(np.float64)).max())
            outcomes.append(Outcome(case.name, "numbers", error, bound, error <= bound))
        else:
            passed = case.wide or bool(np.isfinite(logits).all())
            outcomes.append(Outcome(case.name, "numbers", None, None, passed))
    return tuple(outcomes)


def batches(allowed: BatchRange, available: int) -> tuple[int, ...]:
    """Return the sizes of batches to try: the smallest, one that is a multiple of nothing, and the largest.

    Args:
        allowed: what the artefact takes.
        available: images there are.
    """
    sizes = {allowed.minimum, ODD_BATCH, allowed.maximum}
    return tuple(sorted(size for size in sizes if allowed.minimum <= size <= min(allowed.maximum, available)))
