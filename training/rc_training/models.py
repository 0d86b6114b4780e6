"""ResNet, SENet and ResCNet: one residual network, with the layer after each branch as its only difference.

`ARCHITECTURES` is what the entry-point group `rc_deploy.models` publishes: name -> factory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from rc_deploy.nn import ResponseCalibration
from rc_training.blocks import ACTIVATIONS, BasicBlock, Bottleneck, ResidualBlock, SqueezeExcitation, conv_bn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

CIFAR_FAMILIES = ("resnet", "senet", "rescnet")
CIFAR_DEPTHS = (8, 20, 32, 56)
CIFAR_REDUCTION = 4
IMAGENET_FAMILIES = ("resnet", "rescnet")
IMAGENET_STAGES: dict[int, tuple[type[ResidualBlock], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
IMAGENET_REDUCTION = 16


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool and Linear; images of any size.

    Stage i has `depths[i]` blocks of width `width * 2**i`, and halves the image size if it is not the first.

    Args:
        stem: layers before the first block; returns `width` channels.
        block: kind of block.
        depths: blocks per stage.
        width: of the first stage's blocks.
        num_classes: outputs.
        activation: makes one activation.
        calibration: makes the layer after each branch for that many channels.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        block: type[ResidualBlock],
        depths: Sequence[int],
        width: int,
        num_classes: int,
        activation: Callable[[], nn.Module],
        calibration: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential()
        channels = width
        for index, depth in enumerate(depths):
            stage = nn.Sequential()
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(block(channels, width * 2**index, stride, activation, calibration))
                channels = width * 2**index * block.expansion
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, H, W)."""
        features = self.pool(self.stages(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def cifar_resnet(
    family: str,
    depth: int,
    num_classes: int = 10,
    activation: str = "relu",
    in_channels: int = 3,
    reduction: int | None = None,
) -> ResNet:
    """Build a network for small images: 3x3 stem of 16 channels, 3 stages of (depth - 2) / 6 basic blocks.

    Args:
        family: "resnet", "senet" or "rescnet".
        depth: layers with weights on the longest path, 6 n + 2.
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`; it takes the place of every ReLU.
        in_channels: of the images.
        reduction: r of the SE or RC layers; 4 by default.

    Raises:
        ValueError: an argument out of its range.
    """
    make_activation, calibration = _parts(family, activation, reduction, CIFAR_REDUCTION)
    _require_positive(num_classes=num_classes, in_channels=in_channels)
    stem = nn.Sequential(*conv_bn(in_channels, 16, 3), make_activation())
    depths = [(depth - 2) // 6] * 3
    network = ResNet(stem, BasicBlock, depths, 16, num_classes, make_activation, calibration)
    network.apply(_initialise_cifar)
    return network


def imagenet_resnet(
    family: str,
    depth: int,
    num_classes: int = 10,
    activation: str = "relu",
    in_channels: int = 3,
    reduction: int | None = None,
) -> ResNet:
    """Build a network for large images: torchvision's ResNet, 7x7 stem of 64 channels, max pool, 4 stages.

    Args:
        family: "resnet" or "rescnet".
        depth: 18, 34 or 50.
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`; it takes the place of every ReLU.
        in_channels: of the images.
        reduction: r of the RC layers; 16 by default.

    Raises:
        ValueError: an argument out of its range.
    """
    make_activation, calibration = _parts(family, activation, reduction, IMAGENET_REDUCTION)
    _require_positive(num_classes=num_classes, in_channels=in_channels)
    stem = nn.Sequential(*conv_bn(in_channels, 64, 7, 2), make_activation(), nn.MaxPool2d(3, 2, padding=1))
    block, depths = IMAGENET_STAGES[depth]
    network = ResNet(stem, block, depths, 64, num_classes, make_activation, calibration)
    network.apply(_initialise_imagenet)
    return network


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    **{f"{family}{depth}": partial(cifar_resnet, family, depth) for family in CIFAR_FAMILIES for depth in CIFAR_DEPTHS},
    **{
        f"{family}{depth}_imagenet": partial(imagenet_resnet, family, depth)
        for family in IMAGENET_FAMILIES
        for depth in IMAGENET_STAGES
    },
}


def create(name: str, num_classes: int = 10, activation: str = "relu", **options: int) -> nn.Module:
    """Build the network called `name` with fresh weights.

    Args:
        name: a name of `ARCHITECTURES`, e.g. "rescnet32".
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`.
        options: `in_channels` and `reduction`, see `cifar_resnet`.

    Raises:
        ValueError: unknown name, or an argument out of its range.
        TypeError: an option that the network does not take.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not '{name}'")
    return ARCHITECTURES[name](num_classes=num_classes, activation=activation, **options)


def _parts(
    family: str, activation: str, reduction: int | None, default_reduction: int
) -> tuple[Callable[[], nn.Module], Callable[[int], nn.Module]]:
    """Return what makes the activations and what makes the layer after each branch, given its channels."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not '{activation}'")
    make_activation = ACTIVATIONS[activation]
    if family == "resnet":
        if reduction is not None:
            raise ValueError("reduction is for SE and RC layers; resnet has none")
        return make_activation, lambda _: nn.Identity()
    r = default_reduction if reduction is None else reduction
    _require_positive(reduction=r)
    if family == "senet":
        return make_activation, lambda channels: SqueezeExcitation(channels, r, make_activation)
    return make_activation, lambda channels: ResponseCalibration(channels, r)


def _require_positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def _initialise_cifar(module: nn.Module) -> None:
    """Kaiming-normal convolutions; small Linears, so that every RC layer starts at mu = 0, std = 1."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _initialise_imagenet(module: nn.Module) -> None:
    """Kaiming-normal convolutions scaled by fan-out, as torchvision does; PyTorch's defaults elsewhere."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
