"""Data sources by name: what `--data` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.data import archives, cifar, pictures, svhn
from rc_deploy.data.sets import ImageSet
from rc_deploy.errors import InputError
from rc_deploy.optional import require

if TYPE_CHECKING:
    from rc_deploy.specs import InputSpec

RANDOM_IMAGES = 256
SOURCES = "digits:test, cifar10:test, cifar100:test, svhn:test, imagenet:val, folder:PATH, npz:PATH or random:SEED"


def load(
    source: str,
    folder: Path | None = None,
    spec: InputSpec | None = None,
    limit: int | None = None,
    seed: int | None = None,
) -> ImageSet:
    """Load the images that `source` names.

    Args:
        source: "digits:SPLIT", "cifar10:SPLIT", "cifar100:SPLIT", "svhn:SPLIT", "imagenet:SPLIT", "folder:PATH",
            "npz:PATH" or "random:SEED". A split is "train" or "test"; ImageNet's test is its "val".
        folder: where the data sets' folders are; the environment variable RC_DATA by default.
        spec: shape and classes of the network to feed; "imagenet", "folder" and "random" need it, the others are
            checked against it.
        limit: the most images; all by default. It takes the first ones or, of pictures, one of each class in turn.
        seed: draws the `limit` images at random instead.

    Raises:
        InputError: unknown source, missing, short or damaged files, or images that do not fit `spec`.
        MissingDependencyError: a package that reads this source is not installed.
        UnsupportedError: they do not fit into this machine's memory.
    """
    name, _, rest = source.partition(":")
    if name == "digits":
        found = _digits(_split(source, rest))
    elif name in cifar.LAYOUTS:
        found = cifar.load(name, _split(source, rest), folder)
    elif name == "svhn":
        found = svhn.load(_split(source, rest), folder)
    elif name == "npz" and rest:
        found = archives.load(Path(rest), spec)
    elif name == pictures.IMAGENET and spec is not None:
        split = "val" if rest == "val" or _split(source, rest) == "test" else "train"
        found = _decoded(pictures.find_imagenet(split, folder), spec, limit, seed)
    elif name == "folder" and rest and spec is not None:
        found = _decoded(pictures.find(Path(rest)), spec, limit, seed)
    elif name == "random" and rest.isdecimal() and spec is not None:
        found = _noise(int(rest), spec)
    else:
        raise InputError(f"'{source}' is not a data source.", f"Write {SOURCES}.")
    if spec is not None:
        _check_fit(source, found, spec)
    if seed is not None and limit is not None and limit < len(found):
        return found.drawn(limit, seed)
    return found.head(limit)


def _decoded(found: pictures.Pictures, spec: InputSpec, limit: int | None, seed: int | None) -> ImageSet:
    """Return pictures in memory: drawn before they are decoded, for all of them may not fit."""
    if seed is not None and limit is not None:
        found = found.drawn(limit, seed)
    return pictures.decode_all(found, spec, limit)


def files_of(source: str, folder: Path | None = None) -> list[Path]:
    """Return the files that `load` would read; none for what comes with a package and for what `load` refuses.

    ImageNet's are not among them: they are too many to hold an output against.
    """
    name, _, rest = source.partition(":")
    if name == "npz":
        return [Path(rest)]
    if name == "folder" and rest:
        return [Path(path) for path in pictures.find(Path(rest)).paths]
    if rest not in ("train", "test"):
        return []
    if name == "svhn":
        return svhn.files(rest, folder)
    return cifar.files(name, rest, folder) if name in cifar.LAYOUTS else []


def _split(source: str, split: str) -> str:
    if split not in ("train", "test"):
        raise InputError(f"'{source}' names no split.", f"Write {source.partition(':')[0]}:train or :test.")
    return split


def _check_fit(source: str, found: ImageSet, spec: InputSpec) -> None:
    if found.images.shape[1:] != spec.shape:
        raise InputError(
            f"The images of {source} are {found.images.shape[1:]} (C, H, W); the network takes {spec.shape}.",
            "Choose the data the network was trained on: `rc-deploy inspect` on its file shows which.",
        )
    if found.labels is not None and len(found.labels) and int(found.labels.max()) >= len(spec.classes):
        raise InputError(
            f"{source} has labels up to {int(found.labels.max())}; the network has {len(spec.classes)} classes.",
            "Choose the data the network was trained on.",
        )


def _digits(split: str) -> ImageSet:
    """Scikit-learn's 1,797 handwritten digits, 8x8: the first 1,437 to train on, the last 360 to test.

    The images come in the order in which they were collected, so the split keeps most writers apart.
    """
    digits: Any = require("sklearn.datasets", "The digits data set").load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    part = slice(0, 1437) if split == "train" else slice(1437, None)
    return ImageSet(images[part], digits.target[part].astype(np.int64), tuple("0123456789"))


def _noise(seed: int, spec: InputSpec) -> ImageSet:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (RANDOM_IMAGES, *spec.shape), np.uint8)
    return ImageSet(images, None, spec.classes)
