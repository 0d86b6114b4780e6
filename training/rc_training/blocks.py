"""The parts residual networks are made of: activations, calibration layers and the two residual blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from rc_deploy.nn import GCLU

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Each place in a network gets an instance of its own, so that layers can be counted, hooked and replaced.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gclu": GCLU,
    "gclu_sigmoid": partial(GCLU, "sigmoid"),
    "gclu_tanh": partial(GCLU, "tanh"),
}


def conv_bn(in_channels: int, out_channels: int, size: int, stride: int = 1, bias: bool = False) -> list[nn.Module]:
    """Return a convolution that keeps the image size (over `stride`), and its BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=bias)
    return [conv, nn.BatchNorm2d(out_channels)]


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation layer (Hu et al., 2018): scales each channel by a gate that sees all of them.

    It adds 2 C^2 / r parameters, and (1 + 1 / r) C more with biases.

    Args:
        channels: C.
        reduction: r; C must be a multiple of it.
        activation: makes the activation between the two Linears.
        bias: whether the Linears have biases.

    Raises:
        ValueError: `channels` is not a multiple of `reduction`.
    """

    def __init__(self, channels: int, reduction: int, activation: Callable[[], nn.Module], bias: bool = False) -> None:
        super().__init__()
        if channels % reduction:
            raise ValueError(f"channels ({channels}) must be a multiple of reduction ({reduction})")
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=bias),
            activation(),
            nn.Linear(channels // reduction, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x scaled, (N, C, H, W)."""
        gate: Tensor = self.gate(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


@dataclass(frozen=True)
class BlockOptions:
    """What all residual blocks of a network have in common.

    Attributes:
        activation: makes one activation.
        calibration: makes the layer after the branch's last BN (RC, SE or identity) for that many channels. An RC
            layer returns a + RC(a), so that the block is activation(a + RC(a) + shortcut), Sec. 4.2.
        shortcut: where the shape changes, "conv" is a 1x1 convolution with the block's stride and BN (He et al.),
            "avgpool" an average pool with that stride, then a 1x1 convolution and BN (ResNet-D, Table 3).
        conv_bias: give every convolution a bias.
        activate_branch: end the branch with an activation, after its last BN.
    """

    activation: Callable[[], nn.Module]
    calibration: Callable[[int], nn.Module]
    shortcut: str = "conv"
    conv_bias: bool = False
    activate_branch: bool = False

    def shortcut_layers(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        """Return the layers that bring (N, in_channels, H, W) to the shape of the branch's output."""
        if stride == 1 and in_channels == out_channels:
            return nn.Identity()
        if self.shortcut == "conv" or stride == 1:
            return nn.Sequential(*conv_bn(in_channels, out_channels, 1, stride, self.conv_bias))
        # An odd size is rounded up, as a strided convolution does; the last average is then of fewer pixels.
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, *conv_bn(in_channels, out_channels, 1, bias=self.conv_bias))


class ResidualBlock(nn.Module):
    """activation(calibration(branch(x)) + shortcut(x)); the subclasses say what the branch is.

    The shortcut is the identity, or layers of `BlockOptions.shortcut` where channels or image size change.

    Args:
        in_channels: channels of x.
        width: channels inside the branch; the block returns `width * expansion`.
        stride: of the first 3x3 convolution and of the shortcut.
        options: what all blocks have in common.
    """

    expansion: ClassVar[int]

    def __init__(self, in_channels: int, width: int, stride: int, options: BlockOptions) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.branch = nn.Sequential(*self._branch(in_channels, width, stride, options))
        if options.activate_branch:
            self.branch.append(options.activation())
        self.calibration = options.calibration(out_channels)
        self.shortcut = options.shortcut_layers(in_channels, out_channels, stride)
        self.activation = options.activation()

    @staticmethod
    def _branch(in_channels: int, width: int, stride: int, options: BlockOptions) -> list[nn.Module]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width * expansion, H / stride, W / stride) for x (N, in_channels, H, W)."""
        out: Tensor = self.activation(self.calibration(self.branch(x)) + self.shortcut(x))
        return out


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (He et al., 2016)."""

    expansion = 1

    @staticmethod
    def _branch(in_channels: int, width: int, stride: int, options: BlockOptions) -> list[nn.Module]:
        return [
            *conv_bn(in_channels, width, 3, stride, options.conv_bias),
            options.activation(),
            *conv_bn(width, width, 3, bias=options.conv_bias),
        ]


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, the last to 4x the width; the stride is on the 3x3 (torchvision's)."""

    expansion = 4

    @staticmethod
    def _branch(in_channels: int, width: int, stride: int, options: BlockOptions) -> list[nn.Module]:
        return [
            *conv_bn(in_channels, width, 1, bias=options.conv_bias),
            options.activation(),
            *conv_bn(width, width, 3, stride, options.conv_bias),
            options.activation(),
            *conv_bn(width, 4 * width, 1, bias=options.conv_bias),
        ]
