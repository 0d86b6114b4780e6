"""Whether what a device computed is within its bounds of the float64 reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rc_deploy.tolerances import GCLU_ARITHMETIC, UNIT_ROUNDOFF, operator_bound

Array = NDArray[np.float64]

# What plugins/include/rc/math.h states of GCLU in float32, in units in the last place (ULP). Its one division, of a
# tail, is compiled with --prec-div=false: 2 ULP in place of the half that a correctly rounded one has. These 1.5 of the
# quotient are at most 3 of the result, whose mantissa may be nearly twice as large.
FLOAT32_ULP = 4.0 + 2 * (2.0 - 0.5)
# plugins/cuda/narrow_math.h before the result is rounded to 16 bits: 2^-16 of it on the host. A device's approximate
# exponential and reciprocals are off by less than 2^-20 together.
NARROW_RELATIVE = 2.0**-15
# What is computed as 0, or rounded as a number below the smallest normal one.
UNDERFLOW = {"float32": 2.0**-126, "float16": 2.0**-25, "bfloat16": 2.0**-110}


def assert_within(found: Array, exact: Array, bound: Array) -> None:
    """NaN where NaN is due, infinity where that is, anything else within `bound` of `exact`."""
    assert found.shape == exact.shape
    same = (np.isnan(found) & np.isnan(exact)) | (found == exact)
    with np.errstate(invalid="ignore"):
        wrong = ~(same | (np.isfinite(exact) & (np.abs(found - exact) <= bound)))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} wrong, first at {np.argwhere(wrong)[0]}"


def gclu_bound(dtype: str, x: Array, exact: Array) -> Array:
    """Return the bound on a kernel's GCLU: the operator's own and one relative to the result.

    The operator's alone would let a kernel return 0 for every x below -5, where the tail is smaller than the roundings
    of the argument that it allows.
    """
    finite = np.where(np.isfinite(x), np.abs(x), 0.0)
    result = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    absolute = operator_bound(dtype, GCLU_ARITHMETIC, finite, result) + UNDERFLOW["bfloat16"]
    if dtype == "float32":
        relative = FLOAT32_ULP * np.spacing(result.astype(np.float32)).astype(np.float64)
    else:
        relative = (NARROW_RELATIVE + UNIT_ROUNDOFF[dtype] * (1 + NARROW_RELATIVE)) * result
    return np.asarray(np.minimum(absolute, relative + UNDERFLOW[dtype]))
