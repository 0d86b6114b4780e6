"""The layers of a PyTorch network: what its modules put out, and how its arithmetic rounds up to each of them."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rc_deploy.nn.roundings import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from rc_deploy.tolerances import Rounding


@dataclass(frozen=True)
class Layer:
    """A module that ran once and put out one tensor.

    Attributes:
        path: of the module in the network; "" is the network.
        shape: of its output for one image, without the batch.
        roundings: of every operator that ran up to its end.
        normalises: path of the module whose output it normalises, if it is a batch norm.
    """

    path: str
    shape: tuple[int, ...]
    roundings: tuple[Rounding, ...]
    normalises: str | None


def layers(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, Layer]:
    """Return the layers of a network by their paths, in the order in which they end.

    Modules that run more than once in a forward pass, and such that return something else than a tensor, are left out.

    Args:
        network: in evaluation mode.
        shape: (C, H, W) of one image.
    """
    ended: list[tuple[str, Tensor, Layer]] = []
    found: list[Rounding] = []

    def note(path: str, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        source = next((path for path, tensor, _ in reversed(ended) if arguments and tensor is arguments[0]), None)
        normalises = source if isinstance(module, nn.modules.batchnorm._BatchNorm) else None
        ended.append((path, output, Layer(path, tuple(output.shape[1:]), tuple(found), normalises)))

    with torch.no_grad(), _hooked(network, note), observed(found):
        network(torch.zeros(1, *shape))
    paths = [path for path, _, _ in ended]
    return {path: layer for path, _, layer in ended if paths.count(path) == 1}


def outputs(
    network: nn.Module, images: NDArray[np.float32], paths: Collection[str], float64: bool = False
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return what the modules of these paths put out for normalised images (N, C, H, W).

    Args:
        network: in evaluation mode.
        images: to run.
        paths: of modules that run once and put out one tensor.
        float64: compute in float64.
    """
    found: dict[str, NDArray[np.floating[Any]]] = {}

    def keep(path: str, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        if path in paths:
            found[path] = output.numpy().copy()  # a later module may write into it

    given = torch.from_numpy(images)
    network, given = (copy.deepcopy(network).double(), given.double()) if float64 else (network, given)
    with torch.inference_mode(), _hooked(network, keep):
        network(given)
    return found


def disturbed_outputs(
    network: nn.Module,
    images: NDArray[np.float32],
    paths: Collection[str],
    size: float,
    folded: Collection[str],
    seed: int,
) -> dict[str, tuple[NDArray[np.floating[Any]], int]]:
    """Return what modules put out in float64 when everything that a narrow type would round is off by a little.

    Disturbed are the outputs and the weights (of two or more dimensions) of modules without submodules, by independent
    relative errors of standard deviation `size`.

    Args:
        network: in evaluation mode.
        images: to run, normalised (N, C, H, W).
        paths: of modules that run once and put out one tensor.
        size: of the errors.
        folded: paths of modules whose outputs stay as they are: a batch norm follows, with which export folds them.
        seed: draws the errors.

    Returns:
        By path, the output and how many outputs and weights were disturbed up to there.
    """
    network, generator = copy.deepcopy(network).double(), torch.Generator().manual_seed(seed)
    found: dict[str, tuple[NDArray[np.floating[Any]], int]] = {}
    count = 0

    def noise(tensor: Tensor) -> Tensor:
        return 1 + size * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    def disturb(path: str, module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor | None:
        nonlocal count
        count += any(weight.dim() > 1 for weight in module.parameters(recurse=False))
        if path in folded or next(module.children(), None) is not None:
            return None
        count += 1
        return output * noise(output)

    def keep(path: str, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        if path in paths:
            found[path] = (output.numpy().copy(), count)

    with torch.inference_mode(), _hooked(network, disturb), _hooked(network, keep):
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.mul_(noise(weight))
        network(torch.from_numpy(images).double())
    return found


@contextmanager
def _hooked(
    network: nn.Module, look: Callable[[str, nn.Module, tuple[Any, ...], Tensor], Tensor | None]
) -> Iterator[None]:
    """Have `look` called with path, module, arguments and output of every module that ends in a tensor.

    What it returns, if anything, takes the place of the output.
    """

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], Tensor | None]:
        def seen(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor | None:
            return look(path, module, arguments, output) if isinstance(output, Tensor) else None

        return seen

    handles = [module.register_forward_hook(hook(path)) for path, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
