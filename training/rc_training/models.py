"""Every network of the paper by name: the residual networks of Tables 1 to 4, and those of Table 5.

`ARCHITECTURES` is what the entry-point group `rc_deploy.models` publishes: name -> factory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rc_training.cait import CaiT
from rc_training.checks import require_known
from rc_training.convnets import alexnet, vgg16_bn
from rc_training.resnet import FAMILIES, LAYOUTS, residual_network
from rc_training.swin import SwinTransformer
from rc_training.transformers import VisionTransformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    **{f"{family}{name}": partial(residual_network, family, LAYOUTS[name]) for name in LAYOUTS for family in FAMILIES},
    "alexnet": alexnet,
    "vgg16_bn": vgg16_bn,
    "vit_tiny": VisionTransformer,
    "swin_tiny": SwinTransformer,
    "cait_xxs": CaiT,
}
# These take images of one size, their argument `image_size` (32 by default); the others take images of any size.
FIXED_SIZE = ("vit_tiny", "swin_tiny", "cait_xxs")


def create(name: str, num_classes: int = 10, activation: str = "relu", **options: Any) -> nn.Module:
    """Build the network called `name` with fresh weights.

    Args:
        name: a name of `ARCHITECTURES`: "resnet", "senet" or "rescnet" with 8, 20, 32, 56 or 50 layers for small
            images or 18, 34 or 50 for large ones ("rescnet32", "resnet50_imagenet"), or a network of Table 5.
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`.
        options: further arguments of its factory: `in_channels` for all, `reduction`, `head`, `shortcut` and
            `integration` for residual networks (see `residual_network`), `image_size` for those of `FIXED_SIZE`.

    Raises:
        ValueError: unknown name, or an argument out of its range.
        TypeError: an option that the network does not take.
    """
    require_known("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name](num_classes=num_classes, activation=activation, **options)
