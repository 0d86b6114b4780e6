"""AutoAugment (Cubuk et al., 2019): the policy found on CIFAR-10, one of its 25 parts for each image of a batch.

A part is two operations, each with a probability and a level of 0 to 9. What a level means is torchvision's reading:
where the paper leaves a sign open, each image draws one, and what comes in from outside is black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rc_training.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

# Which part; then, for each of its two operations, whether it happens and the sign of its magnitude.
COLUMNS = 5

# (operation, probability, level); 0 where there is no level.
POLICY = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)

# What `OPERATIONS` take for a level of 0 to 9, a sign, and the side of the image that is shifted.
MAGNITUDES: dict[str, Callable[[int, int, int], float]] = {
    "shear_y": lambda level, sign, _: sign * 0.3 * level / 9,
    "translate_x": lambda level, sign, side: sign * int(150 / 331 * side * level / 9),
    "translate_y": lambda level, sign, side: sign * int(150 / 331 * side * level / 9),
    "rotate": lambda level, sign, _: sign * 30 * level / 9,
    "brightness": lambda level, sign, _: 1 + sign * 0.9 * level / 9,
    "color": lambda level, sign, _: 1 + sign * 0.9 * level / 9,
    "contrast": lambda level, sign, _: 1 + sign * 0.9 * level / 9,
    "sharpness": lambda level, sign, _: 1 + sign * 0.9 * level / 9,
    "posterize": lambda level, _, __: 8 - round(level * 4 / 9),
    "solarize": lambda level, _, __: 255 - 255 * level / 9,
}


def magnitude(name: str, level: int, sign: int, shape: Sequence[int]) -> float:
    """Return what an operation takes for a level, a sign, 1 or -1, and images of a shape (..., H, W)."""
    return MAGNITUDES[name](level, sign, shape[-1 if name == "translate_x" else -2]) if name in MAGNITUDES else 0.0


def autoaugment(images: Tensor, numbers: Tensor) -> Tensor:
    """Return images (N, C, H, W), C = 1 or 3, as uint8, each after one part of the policy.

    Args:
        images: uint8, or float between 0 and 255, which is rounded first; on any device.
        numbers: (N, 5) in [0, 1); best on the CPU, where they are read.
    """
    images = images.round().to(torch.uint8) if images.is_floating_point() else images.clone()
    part = (numbers[:, 0] * len(POLICY)).long().tolist()
    for slot in (0, 1):
        happens, positive = numbers[:, 1 + 2 * slot].tolist(), (numbers[:, 2 + 2 * slot] < 0.5).tolist()
        groups: dict[str, dict[int, float]] = {}
        for index, row in enumerate(part):
            name, probability, level = POLICY[row][slot]
            if happens[index] < probability:
                groups.setdefault(name, {})[index] = magnitude(name, level, 1 if positive[index] else -1, images.shape)
        for name, group in groups.items():
            rows = torch.tensor(list(group), device=images.device)
            magnitudes = torch.tensor(list(group.values()), dtype=torch.float64)
            images[rows] = OPERATIONS[name](images[rows], magnitudes)
    return images
