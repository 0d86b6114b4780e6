"""The paper's two ideas as modules: the GCLU activation and the response calibration (RC) layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rc_deploy.nn import functional
from rc_deploy.schema import APPROXIMATIONS, DEFAULT_EPSILON

if TYPE_CHECKING:
    from torch import Tensor


class GCLU(nn.Module):
    """Gaussian calibration linear unit (Eq. 6-8), in place of a ReLU or GELU.

    Args:
        approximate: "none", "sigmoid" or "tanh".

    Raises:
        ValueError: `approximate` is none of these.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in APPROXIMATIONS:
            raise ValueError(f"approximate must be one of {', '.join(APPROXIMATIONS)}, not '{approximate}'")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Return GCLU(x), of the shape and type of x."""
        return functional.gclu(x, self.approximate)

    def extra_repr(self) -> str:
        """Return the arguments shown by print."""
        return f"approximate={self.approximate!r}"


class ResponseCalibration(nn.Module):
    """Response calibration layer (Sec. 4.2, 5.3.1): predicts mean and variance of each channel, then calibrates.

    The statistics come from the sample itself: g = mean of a over positions (N, C), h = squeeze(g) (N, C / r),
    mu = mean(h), log_var = log_var(h). It adds 3 C^2 / r + (2 + 1 / r) C parameters.

    The other rows of Table 4: with no reduction mu and log_var come straight from g ("2 FC"), which adds 2 C^2 + 2 C
    parameters; an activation may follow the squeezing Linear ("3 FC", ReLU or Sigmoid).

    Args:
        channels: C.
        reduction: r; C must be a multiple of it. None leaves the squeezing Linear out.
        epsilon: added to the standard deviation.
        activation: applied to h; None for the paper's choice, nothing.

    Raises:
        ValueError: `channels` is not a multiple of `reduction`, or an `activation` without a `reduction`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None,
        epsilon: float = DEFAULT_EPSILON,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if reduction is None and activation is not None:
            raise ValueError("an activation follows the squeezing Linear, which reduction None leaves out")
        if reduction is not None and channels % reduction:
            raise ValueError(f"channels ({channels}) must be a multiple of reduction ({reduction})")
        hidden = channels if reduction is None else channels // reduction
        self.squeeze = nn.Identity() if reduction is None else nn.Linear(channels, hidden)
        self.activation = nn.Identity() if activation is None else activation
        self.mean = nn.Linear(hidden, channels)
        self.log_var = nn.Linear(hidden, channels)
        self.epsilon = epsilon

    def forward(self, a: Tensor) -> Tensor:
        """Return a + RC(a), of the shape and type of a, (N, C, H, W)."""
        hidden = self.activation(self.squeeze(a.mean(dim=(2, 3))))
        return functional.response_calibration(a, self.mean(hidden), self.log_var(hidden), self.epsilon)
