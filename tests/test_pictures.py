"""Folders of pictures and ImageNet: which files, in which order, with which labels, decoded how."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rc_deploy import data, optional
from rc_deploy.data import pictures
from rc_deploy.errors import InputError, MissingDependencyError, RcDeployError, UnsupportedError
from rc_deploy.specs import InputSpec

SPEC = InputSpec((3, 4, 4), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), ("cat", "dog", "eel"))


def paint(path: Path, value: int, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 2 * value, 3 * value)).save(path)
    return path


def folder_of(tmp_path: Path, **counts: int) -> Path:
    """Class folders with files 0.png, 1.png, ..., whose red says the class and the file."""
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            paint(tmp_path / name / f"{index}.png", 10 * label + index)
    return tmp_path


def reds(found: data.ImageSet) -> list[int]:
    return [int(value) for value in found.images[:, 0, 0, 0]]


def test_classes_take_turns(tmp_path: Path) -> None:
    found = data.load(f"folder:{folder_of(tmp_path, cat=3, dog=1, eel=2)}", spec=SPEC)
    assert reds(found) == [0, 10, 20, 1, 21, 2]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 0, 2, 0]
    assert found.images.shape == (6, 3, 4, 4)
    assert found.images[1, :, 0, 0].tolist() == [10, 20, 30]  # RGB
    few = data.load(f"folder:{tmp_path}", spec=SPEC, limit=4)
    assert reds(few) == [0, 10, 20, 1]
    assert len(data.files_of(f"folder:{tmp_path}")) == 6


def test_labels_go_by_name(tmp_path: Path) -> None:
    spec = InputSpec(SPEC.shape, SPEC.mean, SPEC.std, ("eel", "cow", "cat", "dog"))
    found = data.load(f"folder:{folder_of(tmp_path, cat=1, dog=1, eel=1)}", spec=spec)
    assert found.labels is not None
    assert dict(zip(reds(found), found.labels.tolist(), strict=True)) == {0: 2, 10: 3, 20: 0}
    assert found.classes == spec.classes
    assert reds(data.load(f"folder:{tmp_path}", spec=spec, limit=1)) == [20]


def test_unknown_names_go_by_their_order_where_there_is_one_for_each_class(tmp_path: Path) -> None:
    found = data.load(f"folder:{folder_of(tmp_path, n01=1, n02=1, n03=1)}", spec=SPEC)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("names", [("cat", "dog", "cow"), ("n01", "n02")])
def test_names_that_do_not_fit_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not one of them"):
        data.load(f"folder:{folder_of(tmp_path, **dict.fromkeys(names, 1))}", spec=SPEC)


def test_pictures_without_classes_have_no_labels(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.png", "notes.txt", ".hidden.png"):
        paint(tmp_path / "x.png", 5).rename(tmp_path / name)
    found = data.load(f"folder:{tmp_path}", spec=SPEC)
    assert (len(found), found.labels, found.classes) == (2, None, SPEC.classes)


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 400), (256, 341)), ((500, 333), (384, 256)), ((64, 64), (256, 256))]
)
def test_the_middle_is_the_usual_recipe(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Resize(256), CenterCrop(224), written out."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    resized = image.resize(expected, Image.Resampling.BILINEAR)
    left, top = round((expected[0] - 224) / 2), round((expected[1] - 224) / 2)
    found = pictures.middle(image, 224, 224)
    np.testing.assert_array_equal(found, np.asarray(resized)[top : top + 224, left : left + 224])


def test_a_picture_that_fits_stays_as_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    np.testing.assert_array_equal(data.load(f"folder:{tmp_path}", spec=SPEC).images[0], noise.transpose(2, 0, 1))


def test_modes_become_the_networks(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "RGBA", "P", "CMYK"):
        Image.new("RGB", (9, 6), (255, 0, 0)).convert(mode).save(
            tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        )
    assert data.load(f"folder:{tmp_path}", spec=SPEC).images.shape == (5, 3, 4, 4)
    grey = data.load(f"folder:{tmp_path}", spec=InputSpec((1, 4, 4), (0.5,), (0.5,), SPEC.classes))
    assert grey.images.shape == (5, 1, 4, 4)
    assert abs(int(grey.images[1, 0, 0, 0]) - 76) <= 1  # 0.299 of red; CMYK's JPEG comes first


def test_without_pillow_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, cat=1, dog=1, eel=1)
    monkeypatch.setattr(optional, "is_installed", lambda name: name != "PIL")
    with pytest.raises(MissingDependencyError, match="Reading pictures needs Pillow") as caught:
        data.load(f"folder:{tmp_path}", spec=SPEC)
    assert caught.value.hint == "pip install 'rc-deploy[data]'"


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "phrase"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "is not a readable picture"),
        (lambda path: path.write_bytes(b""), "is not a readable picture"),
        (lambda path: path.write_text("no picture"), "is not a readable picture"),
        (lambda path: path.unlink(), "has no pictures"),
        (lambda path: paint(path.parents[1] / "loose.png", 1), "and pictures beside them such as loose.png"),
        (to_fifo, "has no pictures"),
    ],
    ids=["cut", "empty", "text", "missing", "loose", "fifo"],
)
def test_damaged_folders_are_refused(damage, phrase: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    damage(folder_of(tmp_path, cat=2, dog=1, eel=1) / "dog" / "0.png")
    with pytest.raises(InputError) as caught:
        data.load(f"folder:{tmp_path}", spec=SPEC)
    assert phrase in str(caught.value)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, phrase in (
        (f"folder:{tmp_path / 'none'}", "cannot be read"),
        (f"folder:{tmp_path / 'empty'}", "no pictures"),
    ):
        with pytest.raises(InputError, match=phrase):
            data.load(source, spec=SPEC)
    with pytest.raises(InputError, match="is not a data source"):
        data.load("folder:", spec=SPEC)


def test_more_than_fits_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, cat=2, dog=1, eel=1)
    monkeypatch.setattr(pictures, "_memory", lambda: 2 * 3 * 48 + 1)
    with pytest.raises(UnsupportedError, match="4 images .* over half") as caught:
        data.load(f"folder:{tmp_path}", spec=SPEC)
    assert "--limit" in caught.value.hint
    assert len(data.load(f"folder:{tmp_path}", spec=SPEC, limit=3)) == 3


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ImageNet with three classes: the folder that holds `imagenet`."""
    monkeypatch.setattr(pictures, "IMAGENET_CLASSES", 3)
    monkeypatch.setattr(pictures, "IMAGENET_PICTURES", {"train": 5, "val": 3})
    for split, counts in (("train", {"n01": 2, "n02": 2, "n03": 1}), ("val", {"n01": 1, "n02": 1, "n03": 1})):
        folder_of(tmp_path / "imagenet" / split, **counts)
    return tmp_path


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 3), ("test", 3)])
def test_imagenet(split: str, count: int, imagenet: Path) -> None:
    for root in (imagenet, imagenet / "imagenet"):
        assert len(data.load(f"imagenet:{split}", root, SPEC)) == count


@pytest.mark.parametrize(
    ("damage", "phrase"),
    [
        (lambda root: (root / "imagenet/val/n02/0.png").unlink(), "has no pictures"),
        (
            lambda root: paint(root / "imagenet/val/n02/1.png", 1),
            "has 4 pictures of 3 classes; ImageNet's val has 3 of 3",
        ),
        (lambda root: paint(root / "imagenet/val/n04/0.png", 1), "has 4 pictures of 4 classes"),
        (lambda root: (root / "imagenet/val").rename(root / "elsewhere"), "There is no imagenet in"),
    ],
    ids=["empty class", "more", "more classes", "missing"],
)
def test_incomplete_imagenet_is_refused(damage, phrase: str, imagenet: Path) -> None:  # type: ignore[no-untyped-def]
    damage(imagenet)
    with pytest.raises(RcDeployError) as caught:
        data.load("imagenet:val", imagenet, SPEC)
    assert phrase in str(caught.value)


def test_imagenets_official_numbers() -> None:
    assert pictures.IMAGENET_CLASSES == 1000
    assert pictures.IMAGENET_PICTURES == {"train": 1_281_167, "val": 50_000}
