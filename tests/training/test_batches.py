"""Batches: every image once an epoch, and every draw from the run's own generator, for the whole batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch

from rc_deploy.specs import InputSpec
from rc_training.batches import Batches
from rc_training.datasets import normalise
from rc_training.distributed import Processes
from rc_training.splits import InMemory
from rc_training.step import Batch, Mixed
from training_runs import RECIPE, small_splits

if TYPE_CHECKING:
    from rc_training.recipe import Recipe

CPU = torch.device("cpu")
SPLITS = small_splits("digits", None, CPU)
PLAIN = replace(RECIPE, augment=())


def batches(recipe: Recipe, seed: int = 0) -> Batches:
    return Batches(SPLITS.train, recipe, SPLITS.input, torch.Generator().manual_seed(seed))


def test_an_epoch_is_every_image_once_in_an_order_of_its_own() -> None:
    numbered = InMemory(torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1), torch.arange(100))
    spec = InputSpec((1, 1, 1), (0.5,), (0.5,), ("a",))
    made = Batches(numbered, replace(PLAIN, batch_size=30), spec, torch.Generator().manual_seed(0))
    epochs = [list(made.epoch()) for _ in range(3)]
    assert (made.images, made.steps) == (100, 4)
    orders = []
    for epoch in epochs:
        assert [len(batch.labels) for batch in epoch] == [30, 30, 30, 10]
        for batch in epoch:
            assert batch.normalised
            assert batch.mixed is None
            assert torch.equal(batch.images, normalise(numbered.images[batch.labels], spec))
        orders.append(torch.cat([batch.labels for batch in epoch]))
        assert torch.equal(orders[-1].sort().values, torch.arange(100))
    assert all(not torch.equal(first, second) for first, second in pairwise(orders))


FULL = replace(RECIPE, augment=("crop", "flip", "random_erasing"), mixup=1.0, cutmix=1.0)


def same(first: Batch, second: Batch) -> bool:
    assert first.mixed is not None
    assert second.mixed is not None
    pairs = [(first.images, second.images), (first.labels, second.labels)]
    pairs += [(first.mixed.labels, second.mixed.labels)]
    return all(torch.equal(*pair) for pair in pairs) and float(first.mixed.weight) == float(second.mixed.weight)


def test_the_generator_decides_everything() -> None:
    """So a run that has its state can go on, and PyTorch's own generator may be anywhere."""
    made = batches(FULL)
    list(made.epoch())
    state = made.draws.get_state()
    second = list(made.epoch())
    torch.manual_seed(5)
    again = batches(FULL, seed=1)
    again.draws.set_state(state)
    assert all(same(*pair) for pair in zip(second, again.epoch(), strict=True))
    assert not same(second[0], next(batches(FULL, seed=1).epoch()))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_make_the_parts_of_one_batch(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit what one makes, read and augmented by the one that trains on it; some have no image of the last."""
    recipe = replace(FULL, augment=("crop", "flip", "affine", "autoaugment", "random_erasing"), batch_size=31)
    found = []
    for rank in range(size):
        monkeypatch.setattr("rc_training.batches.current", lambda rank=rank: Processes(rank, size))
        found.append(list(batches(recipe).epoch()))
    monkeypatch.undo()
    for whole, *parts in zip(batches(recipe).epoch(), *found, strict=True):
        assert {part.size for part in parts} == {whole.size} == {len(whole.labels)}
        mixed = [part.mixed for part in parts if part.mixed is not None]
        joined = Batch(
            torch.cat([part.images for part in parts]),
            torch.cat([part.labels for part in parts]),
            Mixed(torch.cat([one.labels for one in mixed]), mixed[0].weight),
        )
        assert same(joined, whole)


@pytest.mark.parametrize("recipe", [replace(PLAIN, mixup=1.0), replace(PLAIN, cutmix=1.0)], ids=["mixup", "cutmix"])
def test_images_are_mixed_as_the_recipe_says(recipe: Recipe) -> None:
    for whole, mixed in zip(batches(PLAIN).epoch(), batches(recipe).epoch(), strict=True):
        assert mixed.mixed is not None
        assert torch.equal(whole.labels, mixed.labels)
        others = whole.images[torch.arange(len(whole.labels)) ^ 1]
        assert torch.equal(mixed.mixed.labels, whole.labels[torch.arange(len(whole.labels)) ^ 1])
        weight = float(mixed.mixed.weight)
        if recipe.mixup:
            torch.testing.assert_close(mixed.images, weight * whole.images + (1 - weight) * others)
        else:
            own, other = mixed.images == whole.images, mixed.images == others
            assert bool((own | other).all())
            # Pixels that both images share count for either.
            assert own.float().mean() >= weight - 1e-6
