"""Where every numerical tolerance comes from: one table of roundings and one model of how they add up.

A tolerance is never a flat number. Two programs for one network differ by how they round, so the difference that
rounding explains follows from what the reference computes (docs/tolerances.md has the derivation with worked figures):

1. Rounding to a type with unit roundoff u is a relative error of variance u^2 / 3 (uniform in +-u).
2. A sum of K products accumulated one by one in float32 rounds K partial sums, whose squares grow like k / K of the
   final one: relative variance (u32^2 / 3) (K / 2). Two programs sum in their own orders, so this counts twice.
3. A tensor or a weight stored in the artefact's type adds u^2 / 3; weights enter a sum as independent errors, so the
   length of the sum does not matter.
4. These variances add up over the reference's operators to V. How much a relative error grows on the way to the
   logits is the network's condition number kappa (`rc_deploy.condition`), at least 1. Both are read off the reference
   alone: the artefact under test has a say in neither.
5. Errors of the logits then have standard deviation sigma = kappa sqrt(V) rms(logits). Of n Gaussian values none
   exceeds sigma sqrt(2 ln(2 n / P)) but with probability P, `FALSE_ALARM`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-53}

# The types that precisions of a graph are stored in.
STORED = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}

# A weight is rounded to the nearest value: off by half a step. The quotient by its scale, and the scale, are float32:
# of at most 448 units three roundings are 448 * 3 * 2^-24 < 2^-13 of a step.
HALF_STEP = 1 + 2.0**-12

# A range is either the one that was meant, or off by a factor of 2 (a bit too many or too few): halfway between.
RANGE_FACTOR = math.sqrt(2)

# Where rounding is expected to change the logits by a larger part than this, a comparison proves nothing: networks that
# compute something else would pass as well.
LARGEST_EXPLAINED = 2.0**-4

# Probability that rounding alone exceeds a tolerance: one false alarm in a million validations.
FALSE_ALARM = 1e-6

# Smallest positive number of a type: what underflow can lose.
SMALLEST = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133, "float64": 2.0**-1074}

# Roundings on the way through one `rc` operator, relative to its argument |x| (GCLU) or |a| (RC); errors of z enter
# through |z| phi(z) <= 0.242. GCLU: scale 1 and erf 4, halved by tail <= 1/2, product 1, sum 2. RC: the same with
# z = (a - mu) / (exp(log_var / 2) + epsilon) in place of x: exp 2, sum 1, difference 1, quotient 1 more.
GCLU_ARITHMETIC = 6
RC_ARITHMETIC = 8
# Beside the sums: difference from the mean, square root, quotient, scale and shift; exponential and quotient.
LAYER_NORM_ARITHMETIC = 5
SOFTMAX_ARITHMETIC = 2


def operator_bound(dtype: str, arithmetic: int, argument: Any, result: Any) -> Any:
    """Return the bound on the absolute error of one `rc` operator against exact arithmetic, elementwise.

    Args:
        dtype: type of its tensors; arithmetic is float32 for the narrower ones.
        arithmetic: `GCLU_ARITHMETIC` or `RC_ARITHMETIC`.
        argument: |x| or |a|, any shape.
        result: |y|, the same shape.
    """
    inside = UNIT_ROUNDOFF["float64" if dtype == "float64" else "float32"]
    stored = UNIT_ROUNDOFF[dtype] if dtype in ("float16", "bfloat16") else 0.0
    return arithmetic * inside * argument + stored * result + SMALLEST[dtype]


@dataclass(frozen=True)
class Rounding:
    """The roundings of one operator.

    Attributes:
        reduction: length of the sums it computes; 0 if it computes none.
        arithmetic: further float32 operations on each value, one after the other.
        stores: tensors, results and weights, that a program in a narrower type rounds to that type; in float32 the
            arithmetic counts them already.
    """

    reduction: int = 0
    arithmetic: int = 0
    stores: int = 0

    def float32_variance(self) -> float:
        """Return the variance of the relative error of one float32 program for this operator."""
        return UNIT_ROUNDOFF["float32"] ** 2 / 3 * (self.reduction / 2 + self.arithmetic)

    def variance(self, precision: Precision) -> float:
        """Return the variance of the relative error between a float32 program and one in `precision`."""
        # Quantised layers store nothing between them; what rounding to 8 bits adds is measured (`derive`).
        narrow = UNIT_ROUNDOFF[STORED[precision]] if precision in (Precision.FP16, Precision.BF16) else 0.0
        return 2 * self.float32_variance() + self.stores * narrow**2 / 3


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the difference between two programs' logits, and what they were derived from.

    Attributes:
        maximum: bound on the largest absolute difference.
        mean: bound on the mean absolute difference.
        condition: kappa of the reference on this data.
        variance: V, over all operators.
        scale: root mean square of the reference's logits.
    """

    maximum: float
    mean: float
    condition: float
    variance: float
    scale: float

    @property
    def explained(self) -> float:
        """The change of the logits that rounding explains, relative to them: kappa sqrt(V)."""
        return self.condition * math.sqrt(self.variance)


def derive(
    roundings: Iterable[Rounding],
    precision: Precision,
    logits: NDArray[np.float32],
    condition: float,
    noise: float = 0.0,
) -> Tolerance:
    """Derive the tolerance of a comparison.

    Args:
        roundings: of the reference.
        precision: of the artefact.
        logits: the reference's (N, K).
        condition: the reference's condition number.
        noise: variance of the relative error that quantisation adds, from the reference's tensors and weights.
    """
    variance = noise + sum(rounding.variance(precision) for rounding in roundings)
    scale = float(np.sqrt(np.mean(np.square(logits, dtype=np.float64))))
    sigma = condition * math.sqrt(variance) * scale
    maximum = sigma * math.sqrt(2 * math.log(2 * logits.size / FALSE_ALARM))
    return Tolerance(maximum=maximum, mean=sigma, condition=condition, variance=variance, scale=scale)
