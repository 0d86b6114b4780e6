"""Mixup and CutMix: what goes into the images, and that the labels' weights say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rc_training.mix import Mix, draw_mix, mix


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 12, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 3, height, width, generator=seeded(1)), torch.arange(count)


def draws(count: int, mixup: float, cutmix: float, height: int = 12, width: int = 20) -> list[Mix]:
    generator = seeded()
    found = [draw_mix(mixup, cutmix, height, width, generator) for _ in range(count)]
    return [how for how in found if how is not None]


def is_cut(how: Mix) -> bool:
    return float(how.share) == 1


def test_mixup_is_a_weighted_sum_of_neighbours() -> None:
    images, labels = batch()
    how = draws(1, 1.0, 0.0)[0]
    assert 0 < float(how.weight) < 1
    mixed, others = mix(images, labels, how)
    assert others.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    expected = how.weight.double() * images.double() + (1 - how.weight.double()) * images[others].double()
    torch.testing.assert_close(mixed.double(), expected, rtol=0, atol=1e-6)


def test_cutmix_weighs_by_the_pixels_that_are_left() -> None:
    images, labels = batch()
    for how in draws(50, 0.0, 1.0):
        mixed, others = mix(images, labels, how)
        own, other = (mixed == images)[:, 0], (mixed == images[others])[:, 0]
        assert bool((own ^ other).all())  # every pixel is one image's, unchanged
        assert float(how.weight) == pytest.approx(float(own.double().mean()), abs=1e-7)
        for image in other:  # one rectangle
            rows, columns = image.any(1), image.any(0)
            assert torch.equal(image, rows[:, None] & columns)


def test_cutmix_boxes_are_as_published() -> None:
    """The middle is uniform, sides are sqrt(1 - share) of the image's, and what is outside is cut off."""
    height, width = 12, 20
    boxes = np.array([how.box.tolist() for how in draws(4000, 0.0, 1.0, height, width)])
    top, bottom, left, right = boxes.T
    assert (top >= 0).all()
    assert (bottom <= height).all()
    assert (left >= 0).all()
    assert (right <= width).all()
    assert (top == 0).any()
    assert (bottom == height).any()
    inside = (top > 0) & (bottom < height) & (left > 0) & (right < width)
    # Of a box that nothing was cut off, both sides come from one share: 2 (side // 2) of int(12 s) and int(20 s).
    low = np.maximum((bottom - top)[inside] / height, (right - left)[inside] / width)
    high = np.minimum((bottom - top + 2)[inside] / height, (right - left + 2)[inside] / width)
    assert (low < high).all()
    # Beta(1, 1) is uniform: with nothing cut off, the share of the box would be 1/2 on average.
    middles = (top + bottom)[inside & (bottom - top <= 2)] / 2
    assert middles.mean() == pytest.approx(height / 2, abs=0.6)
    empty = np.mean((bottom == top) | (right == left))
    # A side below 2 of 12 pixels: s < 1/6, of probability 1/36.
    assert empty == pytest.approx(1 / 36, abs=5 * math.sqrt(1 / 36 / 4000))


def test_either_is_taken_half_of_the_time_where_both_are_on() -> None:
    taken = [is_cut(how) for how in draws(2000, 1.0, 1.0)]
    assert abs(sum(taken) - 1000) < 5 * math.sqrt(500)
    assert not any(is_cut(how) for how in draws(100, 1.0, 0.0))
    assert all(is_cut(how) for how in draws(100, 0.0, 1.0))
    assert draw_mix(0.0, 0.0, 8, 8, seeded()) is None


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 0.25 / 1.4)])
def test_shares_have_the_beta_distribution(alpha: float, variance: float) -> None:
    shares = np.array([float(how.weight) for how in draws(4000, alpha, 0.0)])
    assert shares.mean() == pytest.approx(0.5, abs=5 * math.sqrt(variance / 4000))
    assert shares.var() == pytest.approx(variance, rel=0.1)  # a b / ((a + b)^2 (a + b + 1))


def test_a_seed_decides_and_the_global_generator_does_not() -> None:
    state = torch.get_rng_state()
    first, again, other = (draw_mix(1.0, 1.0, 8, 8, seeded(seed)) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.box, again.box)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_of_a_batch_is_that_part_of_the_whole() -> None:
    images, labels = batch(12)
    for how in draws(6, 1.0, 1.0):
        whole = mix(images, labels, how)
        for found, expected in zip(
            zip(*(mix(images[part], labels[part], how) for part in (slice(0, 4), slice(4, 12))), strict=True),
            whole,
            strict=True,
        ):
            assert torch.equal(torch.cat(found), expected)


def test_the_last_of_an_odd_number_stays_as_it_is() -> None:
    images, labels = batch(5)
    for how in draws(6, 1.0, 1.0):
        mixed, others = mix(images, labels, how)
        assert others.tolist() == [1, 0, 3, 2, 4]
        torch.testing.assert_close(mixed[4], images[4], rtol=1e-6, atol=1e-6)
