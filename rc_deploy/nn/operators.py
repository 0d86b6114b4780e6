"""PyTorch custom operators `rc::gclu` and `rc::response_calibration`, with their derivatives.

Being operators and not compositions, each reaches an exported graph as one node. Arithmetic is float32 for float16
and bfloat16 tensors and the tensor's own type otherwise. Equations are the paper's; Phi and phi are the standard
normal distribution function and density. Infinite inputs are clamped to the largest finite value inside products,
where 0 * inf would otherwise give NaN in place of the limit 0.

Error of the forward operators in float32 against float64, |x| <= 14: Phi(-|x|) = erfc(|x| / sqrt 2) / 2 carries
two roundings of its argument, each enlarged by x^2: a relative error of at most (2 x^2 + 12) 2^-24 after the products.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rc_deploy.schema import APPROXIMATIONS, DEFAULT_EPSILON

_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715
_SIGMOID_SCALE = 1.702


def _wide(x: Tensor) -> Tensor:
    """Return `x` in the type the arithmetic is done in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _finite(x: Tensor) -> Tensor:
    """Return `x` with infinities replaced by the largest finite values; NaN stays NaN."""
    largest = torch.finfo(x.dtype).max
    return x.clamp(-largest, largest)


def _phi(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))


def _lower_tail(z: Tensor) -> Tensor:
    """Return Phi(-|z|), accurate far into the tail."""
    return 0.5 * torch.erfc(z.abs() * math.sqrt(0.5))


def _tanh_argument(x: Tensor) -> Tensor:
    return _TANH_SCALE * (x + _TANH_CUBIC * x * x * x)


def _gclu_tail(x: Tensor, approximate: str) -> Tensor:
    """Return the form of Phi(-|x|) that `approximate` names (Eq. 6, 7, 8), written without cancellation."""
    if approximate == "none":
        return _lower_tail(x)
    if approximate == "sigmoid":
        return torch.sigmoid(-_SIGMOID_SCALE * x.abs())
    return torch.sigmoid(-2 * _tanh_argument(x.abs()))  # (1 + tanh u) / 2 = sigmoid(2 u)


def _gclu_tail_slope(x: Tensor, approximate: str, tail: Tensor) -> Tensor:
    """Return d/d|x| of -`_gclu_tail`: the (approximate) normal density at x, not negative."""
    if approximate == "none":
        return _phi(x)
    if approximate == "sigmoid":
        return _SIGMOID_SCALE * tail * (1 - tail)
    return 2 * _TANH_SCALE * (1 + 3 * _TANH_CUBIC * x * x) * tail * (1 - tail)


def _calibration(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return finite a, z, std and std + epsilon; the last two (N, C, 1, ...)."""
    shape = (*mu.shape, *([1] * (a.dim() - 2)))
    std = torch.exp(0.5 * _wide(log_var)).view(shape)
    scale = std + epsilon
    finite = _finite(_wide(a))
    return finite, (finite - _wide(mu).view(shape)) / scale, std, scale


@torch.library.custom_op("rc::gclu", mutates_args=())
def gclu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return ReLU(x) + x Phi(-|x|) (Eq. 6); any shape. Raises ValueError for an unknown `approximate`."""
    if approximate not in APPROXIMATIONS:
        raise ValueError(f"approximate must be one of {', '.join(APPROXIMATIONS)}, not '{approximate}'")
    wide = _wide(x)
    return (wide.relu() + _finite(wide) * _gclu_tail(wide, approximate)).to(x.dtype)


@torch.library.custom_op("rc::gclu_backward", mutates_args=())
def gclu_backward(grad: Tensor, x: Tensor, approximate: str) -> Tensor:
    """Return grad * d GCLU / dx = grad * ([x > 0] + Phi(-|x|) - |x| phi(x)).

    At 0, where the one-sided slopes are 0.5 and 1.5, it is the left one, as Eq. 6 puts 0 on that branch.
    """
    wide = _finite(_wide(x))
    tail = _gclu_tail(wide, approximate)
    slope = _gclu_tail_slope(wide, approximate, tail)
    derivative = (wide > 0).to(wide.dtype) + tail - (wide.abs() * slope).nan_to_num(nan=0.0)
    return (_wide(grad) * torch.where(wide.isnan(), wide, derivative)).to(x.dtype)


@torch.library.custom_op("rc::response_calibration", mutates_args=())
def response_calibration(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float = DEFAULT_EPSILON) -> Tensor:
    """Return a + a Phi(-|z|), z = (a - mu) / (exp(log_var / 2) + epsilon) (Eq. 2-5).

    Args:
        a: responses (N, C, *).
        mu: mean of each sample's channel (N, C).
        log_var: logarithm of its variance (N, C).
        epsilon: added to the standard deviation; positive.
    """
    if mu.shape != a.shape[:2] or log_var.shape != a.shape[:2]:
        raise ValueError(f"mu {tuple(mu.shape)} and log_var {tuple(log_var.shape)} must be {tuple(a.shape[:2])}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    finite, z, _, _ = _calibration(a, mu, log_var, epsilon)
    return (_wide(a) + finite * _lower_tail(z)).to(a.dtype)


@torch.library.custom_op("rc::response_calibration_backward", mutates_args=())
def response_calibration_backward(
    grad: Tensor, a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, mu and log_var.

    With s = std + epsilon, w = Phi(-|z|), sg = -1 where z < 0 else +1:
    d/da = 1 + w - a phi(z) sg / s, d/dmu = a phi(z) sg / s, d/dlog_var = a phi(z) |z| std / (2 s),
    the last two summed over the positions of a channel.
    """
    finite, z, std, scale = _calibration(a, mu, log_var, epsilon)
    wide = _wide(grad)
    through_z = finite * _phi(z) * torch.where(z < 0, -1.0, 1.0) / scale
    grad_a = wide * (1 + _lower_tail(z) - through_z)
    grad_mu = (wide * through_z).flatten(2).sum(2)
    # z phi(z) tends to 0, but is inf * 0 at infinity.
    grad_log_var = (wide * through_z * torch.where(z.isinf(), 0.0, z) * (0.5 * std)).flatten(2).sum(2)
    return grad_a.to(a.dtype), grad_mu.to(mu.dtype), grad_log_var.to(log_var.dtype)


@gclu.register_fake
def _(x: Tensor, approximate: str = "none") -> Tensor:
    return torch.empty_like(x)


@gclu_backward.register_fake
def _(grad: Tensor, x: Tensor, approximate: str) -> Tensor:
    return torch.empty_like(x)


@response_calibration.register_fake
def _(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float = DEFAULT_EPSILON) -> Tensor:
    return torch.empty_like(a)


@response_calibration_backward.register_fake
def _(grad: Tensor, a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(mu), torch.empty_like(log_var)


def _gclu_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, ctx.approximate = inputs
    ctx.save_for_backward(x)


def _gclu_gradient(ctx, grad):  # type: ignore[no-untyped-def]
    (x,) = ctx.saved_tensors
    return gclu_backward(grad, x, ctx.approximate), None


def _calibration_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    a, mu, log_var, ctx.epsilon = inputs
    ctx.save_for_backward(a, mu, log_var)


def _calibration_gradient(ctx, grad):  # type: ignore[no-untyped-def]
    return *response_calibration_backward(grad, *ctx.saved_tensors, ctx.epsilon), None


gclu.register_autograd(_gclu_gradient, setup_context=_gclu_setup)
response_calibration.register_autograd(_calibration_gradient, setup_context=_calibration_setup)
