"""Functional forms of the two operators; the custom operators underneath are in `rc_deploy.nn.operators`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_deploy.nn import operators
from rc_deploy.schema import DEFAULT_EPSILON

if TYPE_CHECKING:
    from torch import Tensor


def gclu(x: Tensor, approximate: str = "none") -> Tensor:
    """Apply the Gaussian calibration linear unit, ReLU(x) + x Phi(-|x|) (Eq. 6).

    Args:
        x: any shape; float16, bfloat16, float32 or float64.
        approximate: "none", or the paper's replacements of Phi: "sigmoid" (Eq. 7; largest error of the result
            0.0203) or "tanh" (Eq. 8; 4.7e-4).

    Returns:
        Tensor of the shape and type of `x`.

    Raises:
        ValueError: `approximate` is none of these.
    """
    result: Tensor = operators.gclu(x, approximate)
    return result


def response_calibration(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float = DEFAULT_EPSILON) -> Tensor:
    """Add to each response its calibration: a + a Phi(-|a - mu| / (exp(log_var / 2) + epsilon)) (Eq. 2-5).

    Args:
        a: responses (N, C, *).
        mu: mean of each sample's channel (N, C).
        log_var: logarithm of its variance (N, C).
        epsilon: added to the standard deviation; positive and finite.

    Returns:
        Tensor of the shape and type of `a`.

    Raises:
        ValueError: shapes that do not fit, or an `epsilon` that is not positive and finite.
    """
    result: Tensor = operators.response_calibration(a, mu, log_var, epsilon)
    return result
