"""Reading off a PyTorch network where its arithmetic rounds, for `rc_deploy.tolerances`.

One image is run through the network while every operator that PyTorch dispatches is looked at, so that functional
calls count as modules do. The artefact under test has no part in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rc_deploy.schema import DOMAIN
from rc_deploy.tolerances import (
    GCLU_ARITHMETIC,
    LAYER_NORM_ARITHMETIC,
    RC_ARITHMETIC,
    SOFTMAX_ARITHMETIC,
    Rounding,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

# Operators that only move, select or make values: they do not round.
EXACT = {
    "abs", "cat", "clone", "constant_pad_nd", "copy_", "detach", "empty", "expand", "flatten", "full", "hardtanh",
    "index", "max_pool2d_with_indices", "neg", "ones", "permute", "relu", "relu_", "roll", "select", "slice", "split",
    "squeeze", "t", "transpose", "unsqueeze", "view", "_unsafe_view", "zeros",
}  # fmt: skip
POOLING = {"mean", "avg_pool2d", "_adaptive_avg_pool2d", "sum"}
# Names under which PyTorch normalises in evaluation mode. Export folds it into the convolution before it, whose
# rounded weights count already; as float32 arithmetic it is one product and one sum.
NORMALISATION = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
_ARITHMETIC = {"gclu": GCLU_ARITHMETIC, "response_calibration": RC_ARITHMETIC}
# Where the weight stands among the arguments of an operator that sums products.
_WEIGHTS = {"convolution": 1, "mm": 1, "addmm": 2, "bmm": 1}


def roundings(network: nn.Module, shape: tuple[int, int, int]) -> list[Rounding]:
    """Return the roundings of one forward pass.

    Args:
        network: in evaluation mode.
        shape: (C, H, W) of one image.
    """
    found: list[Rounding] = []
    with torch.no_grad(), observed(found):
        network(torch.zeros(1, *shape))
    return found


def observed(found: list[Rounding]) -> TorchDispatchMode:
    """Return a context in which the roundings of what PyTorch dispatches are appended to `found`."""
    return _Observer(found)


class _Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in `found` what each dispatched operator rounds."""

    def __init__(self, found: list[Rounding]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        name = function.overloadpacket.__name__
        if name not in EXACT:
            self._found.append(_rounding(function.namespace, name, arguments, result))
        return result


def _rounding(namespace: str, name: str, arguments: tuple[Any, ...], result: Any) -> Rounding:
    if namespace == DOMAIN and name in _ARITHMETIC:
        return Rounding(arithmetic=_ARITHMETIC[name], stores=1)
    if name in _WEIGHTS:
        weight = arguments[_WEIGHTS[name]]
        reduction = math.prod(weight.shape[1:]) if name == "convolution" else weight.shape[-2]
        return Rounding(reduction=reduction, stores=2)
    if name in POOLING:
        return Rounding(reduction=_pooled(name, arguments, result), stores=1)
    if name in NORMALISATION:
        return Rounding(arithmetic=2)
    if name == "native_layer_norm":
        return Rounding(2 * math.prod(arguments[1]), LAYER_NORM_ARITHMETIC, stores=1)
    if name == "_softmax":
        return Rounding(arguments[0].shape[arguments[1]], SOFTMAX_ARITHMETIC, stores=1)
    if name.startswith("_scaled_dot_product"):
        # Queries and keys, scaled; their products; softmax; the products with values: 2 + 2 + 1 + 2 tensors in a graph.
        features, tokens = arguments[0].shape[-1], arguments[1].shape[-2]
        return Rounding(features + 2 * tokens, 2 + SOFTMAX_ARITHMETIC, stores=7)
    return Rounding(arithmetic=1, stores=1)


def _pooled(name: str, arguments: tuple[Any, ...], result: Tensor) -> int:
    """Return how many values one output of a pooling operator averages."""
    if name == "avg_pool2d":
        return math.prod(arguments[1]) if len(arguments[1]) == 2 else arguments[1][0] ** 2
    return max(1, int(arguments[0].numel() // max(result.numel(), 1)))  # an adaptive pool may repeat what it is given
