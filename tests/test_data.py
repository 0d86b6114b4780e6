"""Data sources: official layouts, splits, and files that are not what they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rc_deploy import data
from rc_deploy.data import cifar
from rc_deploy.errors import InputError
from rc_deploy.specs import InputSpec

SPEC = InputSpec((3, 2, 2), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), ("a", "b"))


RECORDS = 150  # of each file, in place of the official numbers
OFFICIAL = {name: layout.files for name, layout in cifar.LAYOUTS.items()}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, layout in cifar.LAYOUTS.items():
        files = {split: dict.fromkeys(files, RECORDS) for split, files in layout.files.items()}
        monkeypatch.setitem(cifar.LAYOUTS, name, replace(layout, files=files))


def test_the_official_numbers_of_images() -> None:
    assert {
        "cifar10": {
            "train": {f"data_batch_{index}.bin": 10_000 for index in range(1, 6)},
            "test": {"test_batch.bin": 10_000},
        },
        "cifar100": {"train": {"train.bin": 50_000}, "test": {"test.bin": 10_000}},
    } == OFFICIAL


def write_cifar10(folder: Path, records: int = RECORDS) -> Path:
    """Files in the official layout, whose pixels and labels follow from their index."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    names = [f"data_batch_{index}.bin" for index in range(1, 6)] + ["test_batch.bin"]
    table = np.zeros((records, 3073), np.uint8)
    table[:, 0] = np.arange(records) % 10
    table[:, 1:] = (np.arange(records) % 251)[:, None]
    for name in names:
        table.tofile(place / name)
    (place / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    return place


def test_normalise_is_the_formula() -> None:
    images = np.array([0, 51, 255, 102], np.uint8).reshape(1, 1, 2, 2).repeat(3, axis=1)
    found = data.normalise(images, SPEC)
    pixels = np.array([0, 0.2, 1, 0.4]).reshape(2, 2)
    np.testing.assert_allclose(found[0], [(pixels - 0.5) / 0.5, (pixels - 0.25) / 0.25, pixels], atol=1e-6)
    assert found.dtype == np.float32


def test_digits_are_all_there_once() -> None:
    train, test = data.load("digits:train"), data.load("digits:test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (1, 8, 8)
    assert train.images.max() == 255
    assert train.labels is not None
    assert set(train.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("inner", [False, True])
def test_cifar10_layout(tmp_path: Path, inner: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_cifar10(tmp_path)
    test = data.load("cifar10:test", place if inner else tmp_path)
    assert test.images.shape == (RECORDS, 3, 32, 32)
    assert test.classes == tuple("abcdefghij")
    assert test.labels is not None
    np.testing.assert_array_equal(test.labels[:12], np.arange(12) % 10)
    assert (test.images[7] == 7).all()
    monkeypatch.setenv("RC_DATA", str(tmp_path))
    assert len(data.load("cifar10:train")) == 5 * RECORDS


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    place = tmp_path / "cifar-100-binary"
    place.mkdir()
    for name in ("train.bin", "test.bin"):
        table = np.zeros((RECORDS, 3074), np.uint8)
        table[:, 0], table[:, 1] = 7, np.arange(RECORDS) % 100
        table.tofile(place / name)
    (place / "fine_label_names.txt").write_text("\n".join(f"class{index}" for index in range(100)))
    test = data.load("cifar100:test", tmp_path)
    assert test.labels is not None
    np.testing.assert_array_equal(test.labels[:101], [*range(100), 0])
    assert len(test.classes) == 100


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda place: (place / "test_batch.bin").write_bytes(b"short"), "has 5 bytes"),
        (lambda place: (place / "test_batch.bin").unlink(), "There is no cifar10"),
        (lambda place: (place / "test_batch.bin").write_bytes(b""), "is empty"),
        (lambda place: (place / "batches.meta.txt").write_text("a b"), "label 9 but 2 classes"),
        (lambda place: (place / "batches.meta.txt").unlink(), "There is no list of classes"),
    ],
)
def test_spoiled_cifar10_is_refused(spoil, phrase: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    spoil(write_cifar10(tmp_path))
    with pytest.raises(InputError) as caught:
        data.load("cifar10:test", tmp_path)
    assert phrase in str(caught.value)


def test_archives_and_noise(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    np.savez(tmp_path / "set.npz", images=images, labels=np.array([1, 0]))
    found = data.load(f"npz:{tmp_path / 'set.npz'}", spec=SPEC)
    np.testing.assert_array_equal(found.images, images)
    first, second = data.load("random:1", spec=SPEC), data.load("random:1", spec=SPEC)
    np.testing.assert_array_equal(first.images, second.images)
    assert (first.images != data.load("random:2", spec=SPEC).images).any()
    assert len(first.head(3)) == 3


def test_labels_must_fit_the_network(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((1, 3, 2, 2), np.uint8), labels=np.array([2]))
    with pytest.raises(InputError, match="labels up to 2; the network has 2 classes"):
        data.load(f"npz:{tmp_path / 'set.npz'}", spec=SPEC)
