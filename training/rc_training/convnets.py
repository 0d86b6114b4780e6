"""AlexNet and VGG-16 with BN (Table 5), each with a chosen activation.

Their classifiers are those of torchvision, made for feature maps of 6x6 and 7x7: an adaptive pool brings maps of any
size to that one, and repeats the pixels of a smaller one. Of a 32x32 image the features are 2x2 and 1x1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from rc_training.blocks import ACTIVATIONS, conv_bn
from rc_training.checks import require_known, require_positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Channels of VGG-16's 3x3 convolutions; a max pool ends each stage (Simonyan and Zisserman, 2015, Table 1, D).
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class ConvNet(nn.Module):
    """Convolutions, an adaptive average pool and three Linears with dropout.

    Args:
        features: layers up to the feature map.
        size: height and width that the feature map is pooled to.
        classifier: layers from (N, channels * size^2) to logits.
    """

    def __init__(self, features: nn.Module, size: int, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, H, W) of at least 32x32."""
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def alexnet(num_classes: int = 10, activation: str = "relu", in_channels: int = 3, hidden: int = 4096) -> ConvNet:
    """Build AlexNet as the paper has it: torchvision's, but 3x3 in its first two convolutions (56,826,698 parameters).

    Args:
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`.
        in_channels: of the images.
        hidden: features between the classifier's Linears.

    Raises:
        ValueError: an argument out of its range.
    """
    act = _activation(activation, num_classes=num_classes, in_channels=in_channels, hidden=hidden)
    features = nn.Sequential(
        *(nn.Conv2d(in_channels, 64, 3, stride=2, padding=1), act(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 192, 3, padding=1), act(), nn.MaxPool2d(2)),
        *(nn.Conv2d(192, 384, 3, padding=1), act()),
        *(nn.Conv2d(384, 256, 3, padding=1), act()),
        *(nn.Conv2d(256, 256, 3, padding=1), act(), nn.MaxPool2d(2)),
    )
    classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(256 * 6 * 6, hidden), act()),
        *(nn.Dropout(), nn.Linear(hidden, hidden), act()),
        nn.Linear(hidden, num_classes),
    )
    return ConvNet(features, 6, classifier)


def vgg16_bn(num_classes: int = 10, activation: str = "relu", in_channels: int = 3, hidden: int = 4096) -> ConvNet:
    """Build VGG-16 with BN after each convolution, as torchvision's (134,309,962 parameters).

    Args and errors are those of `alexnet`.
    """
    act = _activation(activation, num_classes=num_classes, in_channels=in_channels, hidden=hidden)
    features = nn.Sequential()
    channels = in_channels
    for stage in VGG16_STAGES:
        for width in stage:
            features.extend([*conv_bn(channels, width, 3, bias=True), act()])
            channels = width
        features.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(
        *(nn.Linear(512 * 7 * 7, hidden), act(), nn.Dropout()),
        *(nn.Linear(hidden, hidden), act(), nn.Dropout()),
        nn.Linear(hidden, num_classes),
    )
    return ConvNet(features, 7, classifier)


def _activation(activation: str, **counts: int) -> Callable[[], nn.Module]:
    """Return what makes one activation, after checking the arguments."""
    require_known("activation", activation, ACTIVATIONS)
    require_positive(**counts)
    return ACTIVATIONS[activation]
