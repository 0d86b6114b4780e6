"""Augmentations against independent NumPy, what is random in them, and normalisation against rc_deploy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rc_deploy import data
from rc_training.augment import (
    AUGMENTATIONS,
    affine,
    apply,
    augment,
    crop,
    crop_at,
    draw,
    flip,
    prepare,
    random_erasing,
)
from rc_training.datasets import DATASETS, normalise

ALMOST_ONE = 1 - 2**-24  # the largest number that torch.rand draws
SPEC = DATASETS["cifar10"].input


def images(count: int = 6, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_crop_at_equals_slices_of_the_padded_image() -> None:
    batch = images()
    top, left = torch.tensor([0, 8, 4, 1, 5, 3]), torch.tensor([8, 0, 4, 7, 2, 3])
    padded = np.pad(batch.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    expected = [padded[i, :, t : t + 9, u : u + 7] for i, (t, u) in enumerate(zip(top, left, strict=True))]
    cropped = crop_at(batch, top, left)
    np.testing.assert_array_equal(cropped.numpy(), np.stack(expected))
    np.testing.assert_array_equal(cropped[2], batch[2])  # offset (4, 4) is no shift
    assert cropped.is_contiguous()


def test_crop_reaches_both_ends() -> None:
    batch = images(2)
    cropped = crop(batch, torch.tensor([[0.0, ALMOST_ONE], [ALMOST_ONE, 0.0]]))
    assert torch.equal(cropped, crop_at(batch, torch.tensor([0, 8]), torch.tensor([8, 0])))


def test_crop_draws_every_offset_about_equally_often() -> None:
    # One bright pixel in the middle of 9x9: where it goes shows the offsets.
    batch = torch.zeros(8100, 1, 9, 9, dtype=torch.uint8)
    batch[:, 0, 4, 4] = 255
    where = (augment(batch, ["crop"], seeded()) == 255).sum(0)[0]
    # 81 places, 100 expected at each, standard deviation 10.
    assert int(where.sum()) == 8100
    assert 50 < int(where.min()) <= int(where.max()) < 150


def test_flip_mirrors_left_to_right() -> None:
    batch = images(3)
    flipped = flip(batch, torch.tensor([[0.0], [0.499], [0.5]]))
    np.testing.assert_array_equal(flipped.numpy(), np.stack([*batch.numpy()[:2, :, :, ::-1], batch.numpy()[2]]))


def test_flip_mirrors_about_half_of_the_images() -> None:
    batch = images(1000)
    flipped = augment(batch, ["flip"], seeded())
    mirrored = (flipped == batch.flip(3)).flatten(1).all(1)
    assert 450 < int(mirrored.sum()) < 550  # 500, standard deviation 16


def reference_affine(image: np.ndarray, angle: float, shift: tuple[float, float], scale: float) -> np.ndarray:
    """Bilinear look-up pixel by pixel; y grows downwards."""
    _, height, width = image.shape
    padded = np.pad(image.astype(float), ((0, 0), (1, 2), (1, 2)))
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - width / 2 - shift[0], row + 0.5 - height / 2 - shift[1]
            u = (math.cos(angle) * x + math.sin(angle) * y) / scale + width / 2 - 0.5
            v = (-math.sin(angle) * x + math.cos(angle) * y) / scale + height / 2 - 0.5
            left, top = math.floor(u), math.floor(v)
            if -1 <= left < width and -1 <= top < height:
                four = padded[:, top + 1 : top + 3, left + 1 : left + 3]
                weights = np.outer([top + 1 - v, v - top], [left + 1 - u, u - left])
                result[:, row, column] = (four * weights).sum((1, 2))
    return result


def test_affine_equals_a_look_up_pixel_by_pixel() -> None:
    batch = images(5, 2, 9, 7)
    numbers = torch.rand(5, 4, generator=seeded())
    numbers[0] = 0.5  # nothing moves
    numbers[1] = torch.tensor([ALMOST_ONE, 0, ALMOST_ONE, 0])
    found = affine(batch, numbers)
    assert found.dtype == torch.float32
    for image, (turn, right, down, size), moved in zip(batch, (2 * numbers.double() - 1).tolist(), found, strict=True):
        shift = (0.1 * right * 7, 0.1 * down * 9)
        expected = reference_affine(image.numpy(), turn * math.pi / 18, shift, 1 + 0.1 * size)
        # Coordinates of up to 9 pixels in float32, values up to 255: 255 * 9 * a few roundings of 6e-8.
        np.testing.assert_allclose(moved.numpy(), expected, atol=2e-3)
    np.testing.assert_allclose(found[0], batch[0], atol=1e-3)


def boxes_of(erased: torch.Tensor) -> np.ndarray:
    """Top, left, height and width of each image's zeros, which are the same in all channels."""
    assert bool((erased == erased[:, :1]).all())
    found = []
    for image in (erased[:, 0] == 0).numpy():
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        if not len(rows):
            continue
        box = (rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        assert image.sum() == box[2] * box[3]  # one rectangle
        found.append(box)
    return np.array(found)


def test_random_erasing_at_the_ends_of_its_ranges() -> None:
    ones = torch.ones(6, 3, 40, 60)
    end = ALMOST_ONE
    numbers = torch.tensor(
        [
            [0.0, 0.0, end, 0.0, 0.0],  # area 1/16, square: sqrt(150) = 12.2
            [0.0, end, end, end, end],  # area 1/10: sqrt(240) = 15.5, rounded to even by neither
            [0.499, end, 0.0, 0.0, end],  # ratio 0.99: sqrt(240 * 0.99) = 15.41, sqrt(240 / 0.99) = 15.57
            [0.0, 0.5, 0.5, 0.5, 0.5],
            [0.5, 0.0, 0.0, 0.0, 0.0],
            [end, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    boxes = boxes_of(random_erasing(ones, numbers))
    # sqrt(2400 * 0.08125) = 13.96; from 0 to 40 - 14 and 60 - 14, the middle of 27 and of 47 places.
    assert boxes.tolist() == [[0, 0, 12, 12], [25, 45, 15, 15], [0, 44, 15, 16], [13, 23, 14, 14]]


def test_random_erasing_is_uniform() -> None:
    count = 4000
    boxes = boxes_of(augment(torch.ones(count, 3, 32, 32), ["random_erasing"], seeded()))
    assert abs(len(boxes) - count / 2) < 5 * math.sqrt(count / 4)
    tops, lefts, heights, widths = boxes.T
    # Sides: sqrt of an area from 64 to 102.4, so 8 to 10; the ratio is at least 0.99.
    assert set(heights) == set(widths) == {8, 9, 10}
    assert (widths >= heights).all()
    # A side is 8 for areas below 8.5^2 = 72.25, 10 above 9.5^2 = 90.25, of 38.4.
    assert np.mean(heights == 8) == pytest.approx(8.25 / 38.4, abs=0.05)
    assert np.mean(heights == 10) == pytest.approx(12.15 / 38.4, abs=0.05)
    for starts in (tops, lefts):
        eights = starts[heights == widths][(heights == 8)[heights == widths]]
        assert (eights.min(), eights.max()) == (0, 24)
        assert eights.mean() == pytest.approx(12, abs=1.5)  # 25 places, standard deviation of the mean 0.35


def test_random_erasing_leaves_the_rest() -> None:
    batch = torch.randn(8, 3, 32, 32, generator=seeded())
    erased = augment(batch, ["random_erasing"], seeded())
    assert bool(((erased == batch) | (erased == 0)).all())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_seed_decides_the_augmentation(name: str) -> None:
    batch = images(64, 1, 8, 8)
    state = torch.get_rng_state()
    first = augment(batch, [name], seeded(3))
    torch.rand(7)  # the global generator has no say
    assert torch.equal(first, augment(batch, [name], seeded(3)))
    assert not torch.equal(first, augment(batch, [name], seeded(4)))
    assert first.shape == batch.shape
    torch.set_rng_state(state)
    augment(batch, [name], seeded(3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_part_of_a_batch_is_that_part_of_the_whole(parts: int) -> None:
    """What makes data-parallel training independent of the number of processes."""
    names = ["random_erasing", "crop", "autoaugment", "flip", "affine"]
    batch = images(64, 3, 16, 16)
    numbers = draw(names, len(batch), seeded())
    assert numbers.shape == (64, 17)
    whole = prepare(batch, names, numbers, SPEC)
    rows = torch.arange(64).chunk(parts)
    assert torch.equal(torch.cat([prepare(batch[row], names, numbers[row], SPEC) for row in rows]), whole)


def test_augmentations_apply_in_order() -> None:
    batch = images()
    numbers = draw(["crop", "flip"], len(batch), seeded())
    expected = flip(crop(batch, numbers[:, :2]), numbers[:, 2:])
    assert torch.equal(augment(batch, ["crop", "flip"], seeded()), expected)
    assert not torch.equal(apply(batch, ["flip", "crop"], numbers), expected)
    assert augment(batch, [], seeded()) is batch


def test_erasing_comes_after_normalising() -> None:
    batch = images(32, 3, 16, 16)
    numbers = draw(["random_erasing", "flip"], len(batch), seeded())
    expected = random_erasing(normalise(flip(batch, numbers[:, 5:]), SPEC), numbers[:, :5])
    assert torch.equal(prepare(batch, ["random_erasing", "flip"], numbers, SPEC), expected)
    assert bool((expected == 0).flatten(1).any(1).any())
    assert torch.equal(prepare(batch, [], numbers[:, :0], SPEC), normalise(batch, SPEC))


def test_images_stay_as_they_were() -> None:
    batch = images(64, 3, 16, 16)
    before = batch.clone()
    augment(batch, list(AUGMENTATIONS), seeded())
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", DATASETS)
def test_normalise_equals_the_toolkits_bit_for_bit(name: str) -> None:
    spec = DATASETS[name].input
    every_value = np.arange(256, dtype=np.uint8).repeat(spec.shape[0]).reshape(256, spec.shape[0], 1, 1)
    expected = data.normalise(every_value, spec)
    np.testing.assert_array_equal(normalise(torch.from_numpy(every_value), spec).numpy(), expected)
    np.testing.assert_array_equal(normalise(torch.from_numpy(every_value).float(), spec).numpy(), expected)
