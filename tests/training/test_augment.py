"""Augmentations against independent NumPy, and normalisation against rc_deploy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rc_deploy import data
from rc_training.augment import AUGMENTATIONS, augment, crop, crop_at, flip
from rc_training.datasets import DATASETS, normalise


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


def test_crop_draws_every_offset_about_equally_often() -> None:
    # One bright pixel in the middle of 9x9: where it goes shows the offsets.
    batch = torch.zeros(8100, 1, 9, 9, dtype=torch.uint8)
    batch[:, 0, 4, 4] = 255
    where = (crop(batch, seeded()) == 255).sum(0)[0]
    # 81 places, 100 expected at each, standard deviation 10.
    assert int(where.sum()) == 8100
    assert 50 < int(where.min()) <= int(where.max()) < 150


def test_flip_mirrors_about_half_of_the_images() -> None:
    batch = images(1000)
    flipped = flip(batch, seeded())
    mirrored = (flipped == batch.flip(3)).flatten(1).all(1)
    kept = (flipped == batch).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 450 < int(mirrored.sum()) < 550  # 500, standard deviation 16


def test_affine_moves_images_a_little() -> None:
    batch = images(32, 1, 8, 8)
    moved = AUGMENTATIONS["affine"](batch, seeded())
    assert moved.shape == batch.shape
    assert moved.dtype == torch.float32
    assert 0 <= moved.min() <= moved.max() <= 255
    assert not torch.equal(moved, batch.float())
    # Centre pixels move by at most 10% of the size and rotate about the centre: means stay close.
    assert (moved.mean() - batch.float().mean()).abs() < 25


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


def test_augmentations_apply_in_order() -> None:
    batch = images()
    generator = seeded()
    expected = flip(crop(batch, generator), generator)
    assert torch.equal(augment(batch, ["crop", "flip"], seeded()), expected)
    assert augment(batch, [], seeded()) is batch


@pytest.mark.parametrize("name", DATASETS)
def test_normalise_equals_the_toolkits_bit_for_bit(name: str) -> None:
    spec = DATASETS[name].input
    every_value = np.arange(256, dtype=np.uint8).repeat(spec.shape[0]).reshape(256, spec.shape[0], 1, 1)
    expected = data.normalise(every_value, spec)
    np.testing.assert_array_equal(normalise(torch.from_numpy(every_value), spec).numpy(), expected)
    np.testing.assert_array_equal(normalise(torch.from_numpy(every_value).float(), spec).numpy(), expected)
