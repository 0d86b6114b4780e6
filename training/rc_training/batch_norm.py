"""Batch normalisation over the batch of all processes: PyTorch's SyncBatchNorm, but on CPUs too.

Each process sends per channel how many values it has, their mean and the sum of their squared deviations from it.
These are merged as in Chan, Golub and LeVeque (1979), in float64: nothing is lost to cancellation, and a process may
have any number of images, none included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from rc_training.distributed import current

if TYPE_CHECKING:
    from torch import Tensor


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose statistics, in training, are those of the images (N, C, H, W) of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised, of its shape and type. Raises what `Processes.sum` does."""
        if not self.training:
            return super().forward(x)
        out: Tensor
        out, mean, variance, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.eps
        )
        self._follow(mean, variance * count / (count - 1))
        return out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as nn.BatchNorm2d does: the variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.double()
        self.running_mean.add_(share * (mean - self.running_mean))
        self.running_var.add_(share * (variance - self.running_var))


def synchronise(network: nn.Module) -> None:
    """Make every nn.BatchNorm2d inside `network` a `SynchronisedBatchNorm`; names and parameters stay what they are.

    Raises:
        ValueError: it has a batch normalisation of another kind.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _synchronised(child))
            elif isinstance(child, nn.modules.batchnorm._BatchNorm) and type(child) is not SynchronisedBatchNorm:
                raise ValueError(f"{type(child).__name__} cannot be synchronised over processes, only BatchNorm2d")


def _synchronised(module: nn.BatchNorm2d) -> SynchronisedBatchNorm:
    # It differs in the method alone: everything that the module holds, hooks included, is shared.
    made = SynchronisedBatchNorm.__new__(SynchronisedBatchNorm)
    made.__dict__ = module.__dict__
    return made


class _Normalise(torch.autograd.Function):
    """x -> (x - mean) / sqrt(variance + eps) * weight + bias, and mean, variance (C,) and count ().

    With z = (x - mean) / sqrt(variance + eps) and averages over all count = N H W values of a channel:
    d/dx = weight / sqrt(variance + eps) (grad - average(grad) - z average(grad z)), d/dweight = sum(grad z),
    d/dbias = sum(grad), these two over the process's own images: gradients of parameters are summed later.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        mean, variance, count = _statistics(x)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        grad, z = grad.to(mean.dtype), (x.to(mean.dtype) - _spread(mean)) * _spread(scale)
        sums = torch.stack((grad.sum((0, 2, 3)), (grad * z).sum((0, 2, 3))))
        average = current().sum(sums) / count
        if weight is not None:
            scale = scale * weight
        of_x = _spread(scale) * (grad - _spread(average[0]) - z * _spread(average[1]))
        return of_x.to(x.dtype), None if weight is None else sums[1], None if weight is None else sums[0], None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and (biased) variance of each channel over all processes (C,), and how many values it has ()."""
    processes = current()
    own = x.new_zeros((processes.size, 3, x.shape[1]), dtype=torch.float64)
    if x.numel():
        # float32 for half types, whose sums would overflow or round.
        wide = x if x.dtype == torch.float64 else x.float()
        variance, mean = (found.double() for found in torch.var_mean(wide, (0, 2, 3), correction=0))
        values = x.numel() // x.shape[1]
        own[processes.rank] = torch.stack((torch.full_like(mean, values), mean, variance * values))
    counts, means, squares = processes.sum(own).unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    variance = (squares + counts * (means - mean).square()).sum(0) / count
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return mean.to(dtype), variance.to(dtype), count[0].to(dtype)


def _spread(channels: Tensor) -> Tensor:
    return channels[:, None, None]
