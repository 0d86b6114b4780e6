"""ResNet, SENet and ResCNet: one residual network; what differs between the paper's rows are its options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from rc_deploy.nn import ResponseCalibration
from rc_training.blocks import (
    ACTIVATIONS,
    BasicBlock,
    BlockOptions,
    Bottleneck,
    ResidualBlock,
    SqueezeExcitation,
    conv_bn,
)
from rc_training.checks import require_known, require_positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

FAMILIES = ("resnet", "senet", "rescnet")
# Table 4: what follows the squeezing Linear of an RC layer; "fc2" has no such Linear.
HEADS: dict[str, Callable[[], nn.Module] | None] = {
    "fc3": None,
    "fc2": None,
    "fc3_relu": nn.ReLU,
    "fc3_sigmoid": nn.Sigmoid,
}
SHORTCUTS = ("conv", "avgpool")
INTEGRATIONS = ("serial", "parallel")


@dataclass(frozen=True)
class Layout:
    """The size of a residual network.

    Attributes:
        block: kind of block.
        depths: blocks per stage.
        width: of the first stage's blocks.
        reduction: r of its SE and RC layers, unless told otherwise.
        large_images: a 7x7 stem of stride 2 and a max pool (torchvision's), in place of a 3x3 stem of stride 1.
        initialise: applied to every module; None leaves PyTorch's defaults.
        biased_senet: its SENet is the paper's SENet-50: convolutions and SE Linears have biases, and an activation
            follows the branch's last BN.
    """

    block: type[ResidualBlock]
    depths: tuple[int, ...]
    width: int
    reduction: int
    large_images: bool = False
    initialise: Callable[[nn.Module], None] | None = None
    biased_senet: bool = False


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool and Linear; images of any size.

    Stage i has `depths[i]` blocks of width `width * 2**i`, and halves the image size if it is not the first.

    Args:
        layout: its size.
        options: of its blocks.
        num_classes: outputs.
        in_channels: of the images.
    """

    def __init__(self, layout: Layout, options: BlockOptions, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = layout.width
        size, stride = (7, 2) if layout.large_images else (3, 1)
        self.stem = nn.Sequential(*conv_bn(in_channels, channels, size, stride, options.conv_bias))
        self.stem.append(options.activation())
        if layout.large_images:
            self.stem.append(nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.Sequential()
        for index, depth in enumerate(layout.depths):
            width = layout.width * 2**index
            stage = nn.Sequential()
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(layout.block(channels, width, stride, options))
                channels = width * layout.block.expansion
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        if layout.initialise:
            self.apply(layout.initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, H, W)."""
        features = self.pool(self.stages(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def residual_network(
    family: str,
    layout: Layout,
    num_classes: int = 10,
    activation: str = "relu",
    in_channels: int = 3,
    reduction: int | None = None,
    head: str = "fc3",
    shortcut: str = "conv",
    integration: str = "serial",
) -> ResNet:
    """Build a ResNet, SENet or ResCNet.

    Args:
        family: a name of `FAMILIES`.
        layout: its size.
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`; it takes the place of every ReLU.
        in_channels: of the images.
        reduction: r of the SE or RC layers; None for the layout's own.
        head: how RC layers predict mu and log_var, a name of `HEADS` (Table 4).
        shortcut: "conv", or "avgpool" for ResNet-D's (Table 3).
        integration: how a ResCNet adds calibration values (Fig. 6, Sec. 5.3.2). "serial": RC layers before the last
            activation of each block. "parallel": beside every activation, on the same input, whose distribution is
            then taken to be N(0, 1): ReLU(x) + x Phi(-|x|), which is GCLU (Eq. 6). There is nothing to predict, so
            the network is a ResNet with GCLU in place of ReLU.

    Raises:
        ValueError: an argument out of its range, or one that this family has no use for.
    """
    require_known("activation", activation, ACTIVATIONS)
    require_known("head", head, HEADS)
    require_known("shortcut", shortcut, SHORTCUTS)
    require_known("integration", integration, INTEGRATIONS)
    require_positive(num_classes=num_classes, in_channels=in_channels)
    if family == "resnet" and reduction is not None:
        raise ValueError("reduction is for SE and RC layers; resnet has none")
    if family != "rescnet" and (head, integration) != ("fc3", "serial"):
        raise ValueError(f"head and integration are for RC layers; {family} has none")
    if integration == "parallel":
        family, activation = "resnet", _parallel(activation, reduction, head)
    biased = family == "senet" and layout.biased_senet
    make_activation = ACTIVATIONS[activation]
    r = layout.reduction if reduction is None else reduction
    require_positive(reduction=r)
    calibrations: dict[str, Callable[[int], nn.Module]] = {
        "resnet": lambda _: nn.Identity(),
        "senet": lambda channels: SqueezeExcitation(channels, r, make_activation, bias=biased),
        "rescnet": _response_calibration(head, reduction, r),
    }
    options = BlockOptions(
        activation=make_activation,
        calibration=calibrations[family],
        shortcut=shortcut,
        conv_bias=biased,
        activate_branch=biased,
    )
    return ResNet(layout, options, num_classes, in_channels)


def _parallel(activation: str, reduction: int | None, head: str) -> str:
    """Return the form of GCLU that parallel integration makes of `activation`."""
    if reduction is not None or head != "fc3":
        raise ValueError("parallel integration predicts nothing: it takes neither reduction nor head")
    if activation == "relu":
        return "gclu"
    if not activation.startswith("gclu"):
        raise ValueError(f"parallel integration adds to a ReLU, so that the activation cannot be '{activation}'")
    return activation


def _response_calibration(head: str, given: int | None, reduction: int) -> Callable[[int], nn.Module]:
    """Return what makes RC layers with this head."""
    if head == "fc2":
        if given is not None:
            raise ValueError("head 'fc2' has no squeezing Linear, and so no reduction")
        return partial(ResponseCalibration, reduction=None)
    make = HEADS[head]
    return lambda channels: ResponseCalibration(channels, reduction, activation=make() if make else None)


def _initialise_small(module: nn.Module) -> None:
    """Kaiming-normal convolutions; small Linears, so that every RC layer starts at mu = 0, std = 1."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _initialise_large(module: nn.Module) -> None:
    """Kaiming-normal convolutions scaled by fan-out, as torchvision does; PyTorch's defaults elsewhere."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _cifar(depth: int) -> Layout:
    """6 n + 2 layers for small images (He et al., Sec. 4.2): 3 stages of n basic blocks, 16 channels at first."""
    return Layout(BasicBlock, ((depth - 2) // 6,) * 3, width=16, reduction=4, initialise=_initialise_small)


_imagenet = partial(Layout, width=64, reduction=16, large_images=True, initialise=_initialise_large)

# By what follows the family in a network's name.
LAYOUTS: dict[str, Layout] = {
    **{str(depth): _cifar(depth) for depth in (8, 20, 32, 56)},
    "50": Layout(Bottleneck, (3, 4, 6, 3), width=64, reduction=16, biased_senet=True),
    "18_imagenet": _imagenet(BasicBlock, (2, 2, 2, 2)),
    "34_imagenet": _imagenet(BasicBlock, (3, 4, 6, 3)),
    "50_imagenet": _imagenet(Bottleneck, (3, 4, 6, 3)),
}
