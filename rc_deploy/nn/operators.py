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
_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)

# Where Phi(-|x|) and phi(x) are 0 in float32 and negligible in float64; derivatives are constant beyond.
_FAR = 100.0
# Its square is finite in float32, and the density there is 0.
_VERY_FAR = 1e18


def _wide(x: Tensor) -> Tensor:
    """Return `x` in the type the arithmetic is done in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _finite(x: Tensor) -> Tensor:
    """Return `x` with infinities replaced by the largest finite values; NaN stays NaN."""
    largest = torch.finfo(x.dtype).max
    return x.clamp(-largest, largest)


# The helpers below work in place on tensors of their own: training is bound by memory, not by arithmetic.


def _lower_tail(z: Tensor) -> Tensor:
    """Return Phi(-|z|), accurate far into the tail."""
    return z.abs().mul_(math.sqrt(0.5)).erfc_().mul_(0.5)


def _gclu_tail(x: Tensor, approximate: str) -> Tensor:
    """Return the form of Phi(-|x|) that `approximate` names (Eq. 6, 7, 8), written without cancellation."""
    if approximate == "none":
        return _lower_tail(x)
    if approximate == "sigmoid":
        return x.abs().mul_(-_SIGMOID_SCALE).sigmoid_()
    # (1 - tanh u) / 2 = sigmoid(-2 u), u = sqrt(2 / pi) (|x| + 0.044715 |x|^3)
    return x.square().mul_(_TANH_CUBIC).add_(1).mul_(x.abs()).mul_(-2 * _TANH_SCALE).sigmoid_()


def _gclu_density(x: Tensor, approximate: str, tail: Tensor) -> Tensor:
    """Return the derivative of -`_gclu_tail` with respect to |x|: the (approximate) normal density at x."""
    if approximate == "none":
        return x.square().mul_(-0.5).exp_().mul_(_DENSITY_AT_0)
    logistic = tail * (1 - tail)
    if approximate == "sigmoid":
        return logistic.mul_(_SIGMOID_SCALE)
    return x.square().mul_(3 * _TANH_CUBIC).add_(1).mul_(logistic).mul_(2 * _TANH_SCALE)


def _standardise(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return finite a and z, (N, C, *); std and std + epsilon, (N, C, 1, ...)."""
    shape = (*mu.shape, *([1] * (a.dim() - 2)))
    std = torch.exp(0.5 * _wide(log_var)).view(shape)
    scale = std + epsilon
    finite = _finite(_wide(a))
    return finite, (finite - _wide(mu).view(shape)).div_(scale), std, scale


@torch.library.custom_op("rc::gclu", mutates_args=())
def gclu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return ReLU(x) + x Phi(-|x|) (Eq. 6); any shape. Raises ValueError for an unknown `approximate`."""
    if approximate not in APPROXIMATIONS:
        raise ValueError(f"approximate must be one of {', '.join(APPROXIMATIONS)}, not '{approximate}'")
    wide = _wide(x)
    return _gclu_tail(wide, approximate).mul_(_finite(wide)).add_(wide.relu()).to(x.dtype)


@torch.library.custom_op("rc::gclu_backward", mutates_args=())
def gclu_backward(grad: Tensor, x: Tensor, approximate: str) -> Tensor:
    """Return grad * d GCLU / dx = grad * ([x > 0] + Phi(-|x|) - |x| phi(x)).

    At 0, where the one-sided slopes are 0.5 and 1.5, it is the left one, as Eq. 6 puts 0 on that branch.
    """
    near = _wide(x).clamp(-_FAR, _FAR)
    tail = _gclu_tail(near, approximate)
    derivative = _gclu_density(near, approximate, tail).mul_(near.abs()).neg_().add_(tail).add_(near > 0)
    return derivative.mul_(grad).to(x.dtype)


@torch.library.custom_op("rc::response_calibration", mutates_args=())
def response_calibration(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float = DEFAULT_EPSILON) -> Tensor:
    """Return a + a Phi(-|z|), z = (a - mu) / (exp(log_var / 2) + epsilon) (Eq. 2-5).

    Args:
        a: responses (N, C, *).
        mu: mean of each sample's channel (N, C).
        log_var: logarithm of its variance (N, C).
        epsilon: added to the standard deviation; positive and finite.
    """
    if mu.shape != a.shape[:2] or log_var.shape != a.shape[:2]:
        raise ValueError(f"mu {tuple(mu.shape)} and log_var {tuple(log_var.shape)} must be {tuple(a.shape[:2])}")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}")
    finite, z, _, _ = _standardise(a, mu, log_var, epsilon)
    return _lower_tail(z).mul_(finite).add_(a).to(a.dtype)


@torch.library.custom_op("rc::response_calibration_backward", mutates_args=())
def response_calibration_backward(
    grad: Tensor, a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, mu and log_var.

    With s = std + epsilon, w = Phi(-|z|), sg = -1 where z < 0 else +1:
    d/da = 1 + w - a phi(z) sg / s, d/dmu = a phi(z) sg / s, d/dlog_var = a phi(z) |z| std / (2 s),
    the last two summed over the positions of a channel.
    """
    finite, z, std, scale = _standardise(a, mu, log_var, epsilon)
    z.clamp_(-_VERY_FAR, _VERY_FAR)  # z phi(z) tends to 0, but is inf * 0 at infinity
    sign = torch.copysign(z.new_ones(()), z)
    through_z = z.square().mul_(-0.5).exp_().mul_(finite).mul_(_DENSITY_AT_0 / scale).mul_(sign)
    grad_a = _lower_tail(z).add_(1).sub_(through_z).mul_(grad)
    weighted = through_z.mul_(grad)
    grad_mu = weighted.flatten(2).sum(2)
    grad_log_var = weighted.mul_(z).flatten(2).sum(2) * (0.5 * std).flatten(1)
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
