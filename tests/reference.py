"""The one reference of the `rc` operators: float64 NumPy, written from the paper's equations and SciPy's own Phi."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from rc_deploy.schema import DEFAULT_EPSILON
from rc_deploy.tolerances import UNIT_ROUNDOFF

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


def calibrated_tail(
    a: Array, shortcut: Array, weights: list[Array], epsilon: float = DEFAULT_EPSILON
) -> tuple[Array, Array]:
    """The whole tail of a residual block, a (N, C, L), and how far float32 sums may move it.

    A float32 sum of K terms in some order is taken to be off by u (2 sqrt(K) + 4) times the sum of their magnitudes.
    What that does to mu and log_var reaches Y through z: |d Phi| <= 0.4 slope |d mu| + 0.242 |d log_var| / 2.
    """
    w1, b1, w2, b2 = weights
    channels = a.shape[1]

    def off(count: int) -> float:
        return UNIT_ROUNDOFF["float32"] * (2 * float(np.sqrt(count)) + 4)

    mean, mean_off = a.mean(axis=2), np.abs(a).mean(axis=2) * off(a.shape[2])
    hidden = mean @ w1.T + b1
    hidden_off = mean_off @ np.abs(w1.T) + off(channels) * (np.abs(mean) @ np.abs(w1.T) + np.abs(b1))
    out = hidden @ w2.T + b2
    out_off = hidden_off @ np.abs(w2.T) + off(len(b1)) * (np.abs(hidden) @ np.abs(w2.T) + np.abs(b2))
    mu, log_var = out[:, :channels], out[:, channels:]
    slope = 1 / (np.exp(log_var / 2) + epsilon)
    tail_off = 0.4 * slope * out_off[:, :channels] + 0.121 * out_off[:, channels:]
    exact = np.maximum(response_calibration(a, mu, log_var, epsilon) + shortcut, 0.0)
    return exact, np.abs(a) * tail_off[:, :, None]
