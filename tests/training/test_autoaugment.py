"""AutoAugment: the published policy, what its levels mean, and each operation against Pillow's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from rc_training.autoaugment import COLUMNS, POLICY, autoaugment, magnitude
from rc_training.operations import OPERATIONS

COUNT = 60
SHAPES = [(3, 32, 32), (1, 8, 8), (3, 17, 23)]

Enhance = Callable[[Any, float], Any]


def moved(entry: str) -> Enhance:
    def apply(image: Any, value: float) -> Any:
        matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        matrix["abcdef".index(entry)] = value
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)

    return apply


def factors(rng: np.random.Generator) -> Any:
    return rng.uniform(0.1, 1.9, COUNT)


# Pillow's own, and the magnitudes to try: the range of the policy's, and beyond it.
PILLOW: dict[str, tuple[Enhance, Callable[[np.random.Generator], Any]]] = {
    "shear_y": (moved("d"), lambda rng: rng.uniform(-0.3, 0.3, COUNT)),
    "translate_x": (moved("c"), lambda rng: rng.integers(-15, 16, COUNT)),
    "translate_y": (moved("f"), lambda rng: rng.integers(-15, 16, COUNT)),
    "rotate": (lambda image, value: image.rotate(value), lambda rng: rng.uniform(-30, 30, COUNT)),
    "brightness": (lambda i, value: ImageEnhance.Brightness(i).enhance(value), factors),
    "color": (lambda i, value: ImageEnhance.Color(i).enhance(value), factors),
    "contrast": (lambda i, value: ImageEnhance.Contrast(i).enhance(value), factors),
    "sharpness": (lambda i, value: ImageEnhance.Sharpness(i).enhance(value), factors),
    "invert": (lambda image, _: ImageOps.invert(image), lambda _: np.zeros(COUNT)),
    "posterize": (lambda image, value: ImageOps.posterize(image, int(value)), lambda rng: rng.integers(1, 9, COUNT)),
    "solarize": (cast("Enhance", ImageOps.solarize), lambda rng: rng.uniform(0, 256, COUNT)),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), lambda _: np.zeros(COUNT)),
    "equalize": (lambda image, _: ImageOps.equalize(image), lambda _: np.zeros(COUNT)),
}  # fmt: skip


def pictures(shape: tuple[int, int, int]) -> np.ndarray:
    """Noise; narrow, skewed and smooth images; of one and of two values."""
    batch = np.random.default_rng(0).integers(0, 256, (COUNT, *shape))
    batch[0::4] = batch[0::4] // 3 + 50
    batch[1::4] = batch[1::4] ** 3 // 65025
    batch[2::4] = np.sort(batch[2::4], axis=-1)
    batch[3] = 7
    batch[7] = np.where(batch[7] < 200, 7, 9)
    return batch.astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PILLOW)
def test_operations_equal_pillows(name: str, shape: tuple[int, int, int]) -> None:
    batch = pictures(shape)
    apply, draw = PILLOW[name]
    values = np.asarray(draw(np.random.default_rng(1)), np.float64)
    found = OPERATIONS[name](torch.from_numpy(batch), torch.from_numpy(values)).numpy()
    assert found.dtype == np.uint8
    for image, value, mine in zip(batch, values.tolist(), found, strict=True):
        picture = Image.fromarray(image.transpose(1, 2, 0) if shape[0] == 3 else image[0])
        expected = np.asarray(apply(picture, value))
        np.testing.assert_array_equal(mine, expected.transpose(2, 0, 1) if shape[0] == 3 else expected[None])


def test_every_operation_is_held_against_pillow() -> None:
    assert set(OPERATIONS) == set(PILLOW)


def test_the_policy_is_the_published_one() -> None:
    """Table 7 of Cubuk et al.: how often it names each operation, and its sums by operation."""
    assert len(POLICY) == 25
    steps = [step for part in POLICY for step in part]
    assert {name for name, _, _ in steps} == set(OPERATIONS)
    counts = Counter(name for name, _, _ in steps)
    assert counts == {
        "equalize": 9, "autocontrast": 7, "translate_y": 5, "sharpness": 5, "brightness": 4, "color": 5,
        "invert": 3, "contrast": 2, "solarize": 4, "shear_y": 2, "translate_x": 2, "rotate": 1, "posterize": 1,
    }  # fmt: skip
    probabilities = {name: round(sum(p for other, p, _ in steps if other == name), 6) for name in counts}
    assert probabilities == {
        "equalize": 4.7, "autocontrast": 5.0, "translate_y": 3.4, "sharpness": 2.8, "brightness": 2.3, "color": 2.9,
        "invert": 0.2, "contrast": 0.8, "solarize": 1.9, "shear_y": 0.7, "translate_x": 0.8, "rotate": 0.7,
        "posterize": 0.3,
    }  # fmt: skip
    levels = {name: sum(level for other, _, level in steps if other == name) for name in counts}
    assert levels == {
        "equalize": 0, "autocontrast": 0, "translate_y": 39, "sharpness": 24, "brightness": 25, "color": 27,
        "invert": 0, "contrast": 13, "solarize": 18, "shear_y": 15, "translate_x": 17, "rotate": 2, "posterize": 7,
    }  # fmt: skip


def test_magnitudes() -> None:
    """Ten levels over the ranges of the paper's Table 6, the last at their end."""
    shape = (3, 32, 48)
    assert magnitude("shear_y", 9, -1, shape) == pytest.approx(-0.3)
    assert magnitude("translate_x", 9, 1, shape) == 21  # 150 / 331 of 48 pixels, 21.75
    assert magnitude("translate_y", 9, -1, shape) == -14
    assert magnitude("rotate", 9, 1, shape) == pytest.approx(30)
    assert magnitude("rotate", 2, -1, shape) == pytest.approx(-20 / 3)
    for name in ("brightness", "color", "contrast", "sharpness"):
        assert magnitude(name, 9, 1, shape) == pytest.approx(1.9)
        assert magnitude(name, 9, -1, shape) == pytest.approx(0.1)
        assert magnitude(name, 0, -1, shape) == 1
    assert [magnitude("posterize", level, 1, shape) for level in range(10)] == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    assert magnitude("solarize", 9, 1, shape) == 0
    assert magnitude("solarize", 2, -1, shape) == pytest.approx(255 * 7 / 9)


def test_each_image_takes_its_own_part_of_the_policy() -> None:
    """The batch against one image after the other, operation by operation."""
    batch = torch.from_numpy(pictures((3, 32, 32)))
    numbers = torch.rand(COUNT, COLUMNS, generator=torch.Generator().manual_seed(2))
    found = autoaugment(batch, numbers)
    for image, (which, *draws), mine in zip(batch, numbers.tolist(), found, strict=True):
        expected = image[None]
        for (name, probability, level), happens, sign in zip(
            POLICY[int(which * 25)], draws[0::2], draws[1::2], strict=True
        ):
            if happens < probability:
                value = magnitude(name, level, 1 if sign < 0.5 else -1, image.shape)
                expected = OPERATIONS[name](expected, torch.tensor([value], dtype=torch.float64))
        assert torch.equal(mine, expected[0])


def test_how_often_an_operation_happens() -> None:
    """Black images: of the operations that the policy has, only inverting and solarising make them white."""
    batch = torch.zeros(20_000, 1, 4, 4, dtype=torch.uint8)
    numbers = torch.rand(len(batch), COLUMNS, generator=torch.Generator().manual_seed(3))
    white = (autoaugment(batch, numbers) == 255).flatten(1).all(1).double().mean().item()
    # Thresholds of solarize are above 0, so that black stays: parts 0 and 23 invert, each with probability 0.1.
    assert white == pytest.approx(0.2 / 25, abs=5 * (0.008 / 20_000) ** 0.5)
