"""Picture files: a folder of them, or of one folder for each class; ImageNet is kept that way.

Decoding follows the usual recipe for judging ImageNet's networks: the shorter side is brought to 256/224 of the
network's (bilinear, with Pillow's filter against aliasing), and the middle is cut out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.data import places
from rc_deploy.data.sets import ImageSet, draw
from rc_deploy.errors import InputError, UnsupportedError, reason
from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from rc_deploy.specs import InputSpec

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm")
MODES = {1: "L", 3: "RGB"}
# As 256 is to 224: the part of a picture's shorter side that is cut out.
RESIZED, KEPT = 256, 224

IMAGENET = "imagenet"
IMAGENET_CLASSES = 1000
IMAGENET_PICTURES = {"train": 1_281_167, "val": 50_000}
IMAGENET_PAGE = "https://www.image-net.org/download.php"


@dataclass(frozen=True)
class Pictures:
    """Files, class after class, each in the order of its name.

    Attributes:
        paths: of the files.
        labels: (N,) int64, places in `classes`; None where the folder has no folders of classes.
        classes: names of the class folders, sorted.
    """

    paths: tuple[str, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def labelled_for(self, spec: InputSpec) -> Pictures:
        """Return them with the labels that a network's classes have: by name, else in the order of the names.

        Raises:
            InputError: some folders bear names of the network's classes and others do not, or their number differs.
        """
        if self.labels is None:
            return self
        places_of = {name: place for place, name in enumerate(spec.classes)}
        unknown = [name for name in self.classes if name not in places_of]
        if not unknown:
            place = np.array([places_of[name] for name in self.classes], np.int64)
            return Pictures(self.paths, place[self.labels], spec.classes)
        if len(unknown) < len(self.classes) or len(self.classes) != len(spec.classes):
            raise InputError(
                f"There are {len(self.classes):,} folders of classes, of which the network knows "
                f"{len(self.classes) - len(unknown):,} by name; it has {len(spec.classes):,} classes. "
                f"'{unknown[0]:.40}' is not one of them.",
                "Name the folders as the network's classes (`rc-deploy inspect` lists them), or have one for each.",
            )
        return Pictures(self.paths, self.labels, spec.classes)

    def drawn(self, limit: int, seed: int) -> Pictures:
        """Return `limit` pictures drawn as `ImageSet.drawn` does."""
        numbers = draw(len(self), limit, seed)
        labels = None if self.labels is None else self.labels[numbers]
        return Pictures(tuple(self.paths[number] for number in numbers), labels, self.classes)

    def in_turn(self, limit: int | None) -> Pictures:
        """Return the first `limit`, taking one of each class in turn, so that few are of many classes."""
        if self.labels is None:
            return Pictures(self.paths[:limit], None, self.classes)
        counts = np.bincount(self.labels)
        firsts = np.cumsum(counts) - counts  # files come class after class
        by_label = np.argsort(self.labels, kind="stable")
        turn = np.empty(len(self.labels), np.int64)
        turn[by_label] = np.arange(len(self.labels)) - firsts[self.labels[by_label]]
        order = np.lexsort((self.labels, turn))[:limit]
        return Pictures(tuple(self.paths[index] for index in order), self.labels[order], self.classes)


def find(folder: Path) -> Pictures:
    """Return the pictures in `folder` or, where it has folders, in those, one for each class.

    Raises:
        InputError: there is no such folder, it or one of a class has no pictures, or it has both.
    """
    classes, loose = _list(folder, "folder of pictures")
    if not classes and not loose:
        raise InputError(f"{folder} has no pictures ({', '.join(SUFFIXES)}).", "Name the folder that holds them.")
    if not classes:
        return Pictures(tuple(loose), None, ())
    if loose:
        raise InputError(
            f"{folder} has folders, and pictures beside them such as {os.path.basename(loose[0])}.",  # noqa: PTH119
            "Keep each class in a folder of its own, or have pictures alone.",
        )
    paths: list[str] = []
    labels: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        _, files = _list(folder / name, "class")
        if not files:
            raise InputError(f"The class {folder / name} has no pictures.", "Add some, or remove the folder.")
        paths += files
        labels.append(np.full(len(files), label, np.int64))
    return Pictures(tuple(paths), np.concatenate(labels), tuple(classes))


def find_imagenet(split: str, folder: Path | None) -> Pictures:
    """Return ImageNet's "train" or "val" pictures (ILSVRC 2012), after counting classes and files.

    Raises:
        InputError: they are not there, or not all of them.
    """
    advice = (
        f"ImageNet may not be passed on: get it from {IMAGENET_PAGE} and unpack it so that "
        f"DIR/{IMAGENET}/{split}/WNID/*.JPEG exist, one folder for each of the {IMAGENET_CLASSES:,} classes."
    )
    found = find(places.find(IMAGENET, folder, IMAGENET, split, advice) / split)
    if len(found.classes) != IMAGENET_CLASSES or len(found) != IMAGENET_PICTURES[split]:
        raise InputError(
            f"{found.paths[0].rpartition(split)[0]}{split} has {len(found):,} pictures of {len(found.classes):,} "
            f"classes; ImageNet's {split} has {IMAGENET_PICTURES[split]:,} of {IMAGENET_CLASSES:,}.",
            advice,
        )
    return found


def decode_all(pictures: Pictures, spec: InputSpec, limit: int | None) -> ImageSet:
    """Return pictures as a network takes them, in memory.

    Raises:
        InputError: a file is damaged, or no picture.
        UnsupportedError: they would take more than half of this machine's memory.
    """
    pictures = pictures.labelled_for(spec).in_turn(limit)
    size = len(pictures) * int(np.prod(spec.shape))
    if size > _memory() // 2:
        raise UnsupportedError(
            f"{len(pictures):,} images {spec.shape} take {size / 2**30:,.1f} GiB, over half of this machine's memory.",
            "Pass --limit N: it takes N pictures, of each class in turn.",
        )
    images = np.empty((len(pictures), *spec.shape), np.uint8)

    def decode_into(index: int) -> None:
        images[index] = decode(pictures.paths[index], spec.shape[0], lambda image: middle(image, *spec.shape[1:]))

    require("PIL.Image", "Reading pictures")
    with ThreadPoolExecutor() as threads:  # Pillow decodes and resizes without the interpreter's lock
        for _ in threads.map(decode_into, range(len(pictures))):
            pass
    return ImageSet(images, pictures.labels, pictures.classes or spec.classes)


def decode(path: str, channels: int, transform: Callable[[Image], Image]) -> NDArray[np.uint8]:
    """Return a picture (C, H, W) after `transform`. Raises InputError."""
    pillow: Any = require("PIL.Image", "Reading pictures")
    if channels not in MODES:
        raise InputError(f"The network takes {channels} channels.", "Pictures have 1 or 3.")
    try:
        with pillow.open(path) as image:
            pixels = np.array(transform(image.convert(MODES[channels])))
    except Exception as error:  # noqa: BLE001 (damaged bytes make Pillow fail in any way there is)
        raise InputError(f"{path} is not a readable picture: {reason(error)}.", "Copy the file again.") from None
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1))


def middle(image: Image, height: int, width: int) -> Image:
    """Return the middle of a picture, after bringing it to 256/224 of that size; what fits exactly stays as it is."""
    if image.size == (width, height):
        return image
    high, wide = (round(side * RESIZED / KEPT) for side in (height, width))
    if wide * image.height >= high * image.width:
        resized = (wide, wide * image.height // image.width)
    else:
        resized = (high * image.width // image.height, high)
    image = image.resize(resized, bilinear())
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))


def bilinear() -> Any:
    """Return Pillow's bilinear filter."""
    return require("PIL.Image", "Reading pictures").Resampling.BILINEAR


def _list(folder: Path, kind: str) -> tuple[Sequence[str], list[str]]:
    """Return the names of the folders in a folder, and the paths of its pictures, both sorted. Raises InputError."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
            folders = sorted(entry.name for entry in found if entry.is_dir())
            files = sorted(entry.name for entry in found if entry.name.lower().endswith(SUFFIXES) and entry.is_file())
    except OSError as error:
        raise InputError(f"The {kind} {folder} cannot be read: {error.strerror}.", "Check the path.") from None
    return folders, [os.path.join(folder, name) for name in files]  # noqa: PTH118 (a million of them)


def _memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
