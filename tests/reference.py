"""The one reference of the `rc` operators: float64 NumPy, written from the paper's equations and SciPy's own Phi."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

Array = NDArray[np.float64]


def tail(x: Array, approximate: str = "none") -> Array:
    """Return Phi(-|x|), or the paper's approximation of it (Eq. 7, 8)."""
    magnitude = np.abs(x)
    if approximate == "sigmoid":
        return np.asarray(expit(-1.702 * magnitude))
    if approximate == "tanh":
        # (1 - tanh u) / 2 = expit(-2 u), which does not cancel where tanh u is close to 1
        return np.asarray(expit(-2 * np.sqrt(2 / np.pi) * (magnitude + 0.044715 * magnitude**3)))
    return np.asarray(ndtr(-magnitude))


def gclu(x: Any, approximate: str = "none") -> Array:
    """Eq. 6, with its limits at infinity; NaN gives NaN."""
    wide = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        product = np.where(np.isinf(wide), 0.0, wide * tail(wide, approximate))
    return np.maximum(wide, 0.0) + product


def response_calibration(a: Any, mu: Any, log_var: Any, epsilon: float = 1e-5) -> Array:
    """Eq. 2-5: a (N, C, *), mu and log_var (N, C)."""
    wide = np.asarray(a, np.float64)
    spread = (*np.shape(mu), *([1] * (wide.ndim - 2)))
    mean = np.asarray(mu, np.float64).reshape(spread)
    std = np.exp(0.5 * np.asarray(log_var, np.float64)).reshape(spread)
    with np.errstate(invalid="ignore", over="ignore"):
        weight = np.where(np.isinf(wide) & ~np.isnan(mean + std), 0.0, tail((wide - mean) / (std + epsilon)))
        product = np.where(np.isinf(wide) & (weight == 0), 0.0, wide * weight)
    return wide + product
