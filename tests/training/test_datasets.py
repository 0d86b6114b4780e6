"""Data sets: the pinned constants are those of the data, damaged files are refused, ImageNet comes from its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from rc_deploy import data
from rc_deploy.data import cifar, pictures, svhn
from rc_deploy.errors import InputError
from rc_training import recipe as recipes
from rc_training.datasets import DATASETS, Dataset
from rc_training.options import RunOptions
from rc_training.splits import Split, random_box, random_part, whole
from rc_training.train import train

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


def write_svhn(folder: Path, split: str, count: int) -> None:
    folder.mkdir(exist_ok=True)
    pixels = np.arange(count, dtype=np.uint8) * np.ones((32, 32, 3, 1), np.uint8)
    labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
    scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": labels})


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svhn, "RECORDS", {"train": 20, "test": 11})
    write_svhn(tmp_path / "svhn", "train", 20)
    write_svhn(tmp_path / "svhn", "test", 11)
    dataset = DATASETS["svhn"]
    images, labels = dataset.load("train", tmp_path, CPU)
    assert images.shape == (20, 3, 32, 32)
    assert labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    assert len(dataset.open("test", tmp_path, CPU)) == 11
    assert dataset.at(tmp_path) is dataset
    assert [round(255 * value, 3) for value in (*dataset.input.mean, *dataset.input.std)] == [
        109.9, 109.7, 113.8, 50.1, 50.6, 50.8,
    ]  # fmt: skip


def write_cifar(folder: Path, name: str) -> Path:
    layout = cifar.LAYOUTS[name]
    place = folder / layout.folder
    place.mkdir()
    for split in ("train", "test"):
        for file, size in layout.sizes(split).items():
            (place / file).write_bytes(bytes(size))
    (place / layout.names).write_text("\n".join(DATASETS[name].input.classes))
    return place


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR with files of two records."""
    for name, layout in cifar.LAYOUTS.items():
        files = {split: dict.fromkeys(files, 2) for split, files in layout.files.items()}
        monkeypatch.setitem(cifar.LAYOUTS, name, replace(layout, files=files))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "file", "damage", "phrase"),
    [
        ("cifar10", "data_batch_3.bin", Path.unlink, "There is no cifar10 file at"),
        ("cifar10", "data_batch_5.bin", cut, "has 6,145 bytes; cifar10's has 6,146"),
        ("cifar10", "test_batch.bin", lengthen, "has 6,147 bytes; cifar10's has 6,146"),
        ("cifar10", "batches.meta.txt", Path.unlink, "There is no list of classes"),
        ("cifar100", "train.bin", Path.unlink, "There is no cifar100 file at"),
        ("cifar100", "test.bin", Path.unlink, "There is no cifar100 in"),
        ("cifar100", "train.bin", cut, "has 6,147 bytes; cifar100's has 6,148"),
        ("cifar100", "test.bin", lengthen, "has 6,149 bytes; cifar100's has 6,148"),
    ],
)
def test_damaged_data_is_refused_before_training_starts(
    name: str, file: str, damage: Callable[[Path], None], phrase: str, tmp_path: Path
) -> None:
    place = write_cifar(tmp_path, name)
    recipe = replace(recipes.load("cifar10-rescnet8"), dataset=name, epochs=2, warmup_epochs=0)
    damage(place / file)
    with pytest.raises(InputError) as caught:
        train(recipe, RunOptions(tmp_path / "run", data=tmp_path, device="cpu"))
    assert phrase in str(caught.value)
    assert f"rc-deploy download {name} --data-dir {tmp_path}" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ImageNet with two classes: pictures of noise, the last of them of 4 to 3."""
    monkeypatch.setattr(pictures, "IMAGENET_CLASSES", 2)
    monkeypatch.setattr(pictures, "IMAGENET_PICTURES", {"train": 6, "val": 2})
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for name in ("n01", "n02"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(0, 256, (30, 40, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{name}_{index}.JPEG", format="PNG")
    return tmp_path


def imagenet_at(folder: Path) -> Dataset:
    """The data set for networks that take 16x16, so that tests are quick."""
    found = DATASETS["imagenet"].at(folder)
    return replace(found, input=replace(found.input, shape=(3, 16, 16)))


def test_imagenets_classes_are_its_folders(imagenet: Path) -> None:
    assert len(DATASETS["imagenet"].input.classes) == 1000
    assert imagenet_at(imagenet).input.classes == ("n01", "n02")


def test_imagenet_is_judged_on_the_middle(imagenet: Path) -> None:
    dataset = imagenet_at(imagenet)
    split = dataset.open("test", imagenet, CPU)
    batches = list(split.batches(torch.arange(2), 1))
    assert [labels.tolist() for _, labels in batches] == [[0], [1]]
    with Image.open(imagenet / "imagenet/val/n02/n02_0.JPEG") as picture:
        expected = np.asarray(pictures.middle(picture, 16, 16)).transpose(2, 0, 1)
    np.testing.assert_array_equal(batches[1][0][0], expected)
    found = data.load("imagenet:val", imagenet, dataset.input)
    np.testing.assert_array_equal(found.images, torch.cat([images for images, _ in batches]).numpy())


def epoch(split: Split, part: Callable[[int], slice] = whole, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(split.batches(torch.tensor([5, 0, 3, 2, 4, 1]), 4, part, seed))
    assert len(batches) == 2
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_imagenet_is_trained_on_random_parts(imagenet: Path) -> None:
    split = imagenet_at(imagenet).open("train", imagenet, CPU)
    images, labels = epoch(split)
    assert images.shape == (6, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert torch.equal(images, epoch(split)[0])
    assert not torch.equal(images, epoch(split, seed=2)[0])


def test_neither_workers_nor_processes_change_the_pictures(imagenet: Path) -> None:
    dataset = imagenet_at(imagenet)
    alone = dataset.open("train", imagenet, CPU)
    expected, labels = epoch(alone)
    halves = [epoch(alone, half) for half in (lambda count: slice(count // 2), lambda count: slice(count // 2, count))]
    # Batches of 4 and 2 images: the first process has 0, 1 and 4, the second 2, 3 and 5.
    order = torch.tensor([0, 1, 3, 4, 2, 5])
    assert torch.equal(torch.cat([halves[0][0], halves[1][0]])[order], expected)
    assert torch.equal(torch.cat([halves[0][1], halves[1][1]])[order], labels)
    assert torch.equal(epoch(dataset.open("train", imagenet, CPU, workers=2))[0], expected)
    none, _ = epoch(alone, lambda count: slice(0, 0))
    assert none.shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named(workers: int, imagenet: Path) -> None:
    damaged = imagenet / "imagenet/train/n02/n02_1.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(InputError, match=r"n02_1\.JPEG is not a readable picture") as caught:
        epoch(imagenet_at(imagenet).open("train", imagenet, CPU, workers))
    assert caught.value.hint == "Copy the file again."


def test_random_parts_are_the_usual_ones() -> None:
    """RandomResizedCrop: 8% to 100% of the area, 3:4 to 4:3 in shape, anywhere inside."""
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(400, 300, rng.random((10, 4)).tolist()) for _ in range(3000)])
    left, top, wide, high = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + wide <= 400).all()
    assert (top + high <= 300).all()
    areas, ratios = wide * high / 120_000, wide / high
    assert 0.078 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.76
    assert 1.32 < ratios.max() < 1.35
    small = areas < 0.4  # these fit whatever their shape: their logarithm is uniform, and so is their place
    assert np.log(ratios[small]).mean() == pytest.approx(0, abs=0.03)
    assert (left[small] / (400 - wide[small])).mean() == pytest.approx(0.5, abs=0.03)
    assert (top[small] / (300 - high[small])).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("size", "box"), [((400, 10), (193, 0, 13, 10)), ((10, 400), (0, 193, 10, 13)), ((12, 10), (0, 0, 12, 10))]
)
def test_where_no_try_fits_it_is_the_middle(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert random_box(*size, []) == box
    whole_area = [[1.0, 1.0, 0.0, 0.0]] * 10  # 4:3 of all the pixels
    assert random_box(*size, whole_area) == box


def test_the_first_try_that_fits_counts() -> None:
    # 8% of 200 x 200 pixels, square: sides of sqrt(3200) = 56.6; then its place, among 144 along each axis.
    tries = [[1.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.25, 0.5], [0.0, 0.5, 0.0, 0.0]]
    assert random_box(200, 200, tries) == (72, 36, 57, 57)


def test_a_random_part_is_cut_then_resized() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    expected = noise.crop((72, 36, 72 + 57, 36 + 57)).resize((20, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(random_part(noise, [[0.0, 0.5, 0.25, 0.5]], 10, 20), expected)
