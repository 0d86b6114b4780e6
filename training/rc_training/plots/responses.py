"""Response values of a network's last block (Sec. 3): its features before their activation, pooled over positions.

They are taken by forward hooks from any network that is made of such blocks as rc_training's:
`network.stages[i][j]` with `branch`, `calibration`, `shortcut` and `activation`, the block being
activation(calibration(branch(x)) + shortcut(x)).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.nn import ResponseCalibration
from rc_training.blocks import SqueezeExcitation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

PARTS = ("branch", "calibration", "shortcut", "activation")
LAYERS: dict[type[nn.Module], str] = {ResponseCalibration: "RC layer", SqueezeExcitation: "SE layer"}


@dataclass(frozen=True)
class Calibrated:
    """What a layer between branch and shortcut does to the responses.

    Attributes:
        layer: its name.
        before: features of its input, (N, C) float64.
        after: of its output.
    """

    layer: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True)
class Responses:
    """Response values of the last block.

    Attributes:
        features: mean over positions of what enters the block's activation, (N, C) float64.
        calibrated: what the block's calibration layer did; None where it has none.
    """

    features: NDArray[np.float64]
    calibrated: Calibrated | None


def last_block(network: nn.Module, name: str) -> nn.Module:
    """Return the last residual block of a network called `name`.

    Raises:
        UnsupportedError: the network is not made of blocks that can be read.
    """
    stages = getattr(network, "stages", None)
    block: Any = stages
    for _ in ("stage", "block"):
        block = block[-1] if isinstance(block, nn.Sequential | nn.ModuleList) and len(block) else None
    missing = [part for part in PARTS if not isinstance(getattr(block, part, None), nn.Module)]
    if not isinstance(block, nn.Module) or missing:
        what = (
            f"its last block has no {', '.join(missing)}"
            if isinstance(block, nn.Module)
            else "it has no `stages` of blocks"
        )
        raise UnsupportedError(
            f"The responses of {name} cannot be read: {what}.",
            "Name checkpoints of a ResNet, SENet or ResCNet, or of a network whose stages[-1][-1] is a block with "
            f"{', '.join(PARTS)}.",
        )
    return block


@torch.inference_mode()
def record(network: nn.Module, batches: Iterable[Tensor], name: str) -> Responses:
    """Run a network on batches of normalised images (N, C, H, W), in evaluation mode, and return its responses.

    Args:
        network: called `name` in messages.
        batches: at least one, on the network's device.
        name: of the network.

    Raises:
        UnsupportedError: the network is not made of blocks that can be read.
        InputError: its responses are infinite or no numbers.
    """
    block: Any = last_block(network, name)
    layer = None if isinstance(block.calibration, nn.Identity) else block.calibration
    features: list[Tensor] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    count = 0
    with ExitStack() as hooks:
        hooks.callback(block.activation.register_forward_pre_hook(_keep_input(features)).remove)
        if layer is not None:
            hooks.callback(layer.register_forward_pre_hook(_keep_input(before)).remove)
            hooks.callback(layer.register_forward_hook(_keep_output(after)).remove)
        network.eval()
        for batch in batches:
            network(batch)
            count += 1
    places = [features] if layer is None else [features, before, after]
    _require_once_each(name, count, places)
    found = [torch.cat(values) for values in places]
    if not all(values.isfinite().all() for values in found):
        raise InputError(
            f"The responses of {name} are not finite: its weights are those of a training that diverged.",
            "Train it again with a lower learning rate.",
        )
    arrays = [values.numpy() for values in found]
    if layer is None:
        return Responses(arrays[0], None)
    title = next((words for kind, words in LAYERS.items() if isinstance(layer, kind)), type(layer).__name__)
    return Responses(arrays[0], Calibrated(title, arrays[1], arrays[2]))


def _require_once_each(name: str, batches: int, kept: list[list[Tensor]]) -> None:
    if any(len(values) != batches or any(value.ndim != 2 for value in values) for values in kept):
        raise UnsupportedError(
            f"The responses of {name} cannot be read: its last block does not run its activation and its calibration "
            "once for each batch, on features (N, C, H, W).",
            "Name checkpoints of a ResNet, SENet or ResCNet.",
        )


def _keep_input(values: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda _, inputs: values.append(_pooled(inputs[0]))


def _keep_output(values: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    return lambda _, __, output: values.append(_pooled(output))


def _pooled(features: Tensor) -> Tensor:
    """Return the mean over positions (N, C) of features (N, C, H, W), in float64; other shapes as they are."""
    return features.double().mean(dim=(2, 3)).cpu() if features.ndim == 4 else features
