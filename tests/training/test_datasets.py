"""Data sets: the pinned constants are those of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from rc_training.datasets import DATASETS

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def test_digits_constants_are_those_of_the_training_split() -> None:
    dataset = DATASETS["digits"]
    images, labels = dataset.load("train", None, CPU)
    assert images.shape == (1437, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert torch.unique(labels).tolist() == list(range(10))
    pixels = images.double() / 255
    assert dataset.input.mean == pytest.approx([pixels.mean().item()], abs=5e-5)
    assert dataset.input.std == pytest.approx([pixels.std(correction=0).item()], abs=5e-5)
    assert len(dataset.load("test", None, CPU)[0]) == 360


def test_class_names() -> None:
    assert len(DATASETS["cifar10"].input.classes) == 10
    names = DATASETS["cifar100"].input.classes
    assert len(set(names)) == 100
    assert list(names) == sorted(names)


@pytest.mark.cifar
def test_cifar10_constants_are_those_of_the_training_split(cifar10_folder: Path) -> None:
    dataset = DATASETS["cifar10"]
    images, labels = dataset.load("train", cifar10_folder, CPU)
    assert images.shape == (50_000, 3, 32, 32)
    assert labels.bincount().tolist() == [5000] * 10
    channels = images.transpose(0, 1).flatten(1)
    for channel, mean, std in zip(channels, dataset.input.mean, dataset.input.std, strict=True):
        assert (channel.double().mean() / 255).item() == pytest.approx(mean, abs=5e-4)
        assert (channel.double().std() / 255).item() == pytest.approx(std, abs=5e-4)
    test_images, _ = dataset.load("test", cifar10_folder, CPU)
    assert test_images.shape == (10_000, 3, 32, 32)
