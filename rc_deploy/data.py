"""Labelled images to judge networks on, and the one definition of how they are fed to a network.

A data set is written NAME:SPLIT, e.g. `digits:test` or `cifar10:train`; `npz:PATH` reads a NumPy archive and
`random:SEED` makes images of noise, without labels. Images stay uint8 until `normalise` feeds them to a network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.errors import InputError, reason
from rc_deploy.files import require_file
from rc_deploy.optional import require
from rc_deploy.specs import MOST_CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rc_deploy.specs import InputSpec

DATA_VARIABLE = "RC_DATA"
CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
RANDOM_IMAGES = 256


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8, and their labels (N,) int64 where they have any."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def head(self, limit: int | None) -> ImageSet:
        """Return the first `limit` images; all of them for None."""
        labels = None if self.labels is None else self.labels[:limit]
        return ImageSet(self.images[:limit], labels, self.classes)


@dataclass(frozen=True)
class CifarLayout:
    """Files of one CIFAR data set in its official "binary version".

    A record is `label_bytes` label bytes, of which the last counts, then 3072 pixels in (C, H, W) order.
    """

    folder: str
    files: dict[str, tuple[str, ...]]
    records: int
    label_bytes: int
    names: str


CIFAR = {
    "cifar10": CifarLayout(
        folder="cifar-10-batches-bin",
        files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        records=10_000,
        label_bytes=1,
        names="batches.meta.txt",
    ),
    "cifar100": CifarLayout(
        folder="cifar-100-binary",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        records=0,  # differs by file: 50,000 and 10,000
        label_bytes=2,
        names="fine_label_names.txt",
    ),
}


def normalise(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return what the network takes: (pixels / 255 - mean) / std per channel, (N, C, H, W) float32."""
    mean = np.array(spec.mean, np.float32).reshape(1, -1, 1, 1)
    std = np.array(spec.std, np.float32).reshape(1, -1, 1, 1)
    return (images.astype(np.float32) / np.float32(255) - mean) / std


def load(source: str, folder: Path | None = None, spec: InputSpec | None = None) -> ImageSet:
    """Load the images that `source` names.

    Args:
        source: "digits:SPLIT", "cifar10:SPLIT", "cifar100:SPLIT", "npz:PATH" or "random:SEED".
        folder: where the CIFAR folders are; the environment variable RC_DATA by default.
        spec: shape and classes of the network to feed; "random" needs it, the others are checked against it.

    Raises:
        InputError: unknown source, missing, short or damaged files, or images that do not fit `spec`.
        MissingDependencyError: "digits" without scikit-learn.
    """
    name, _, rest = source.partition(":")
    if name == "digits":
        found = _digits(_split(source, rest))
    elif name in CIFAR:
        found = _cifar(name, _split(source, rest), folder)
    elif name == "npz" and rest:
        found = _npz(Path(rest), spec)
    elif name == "random" and rest.isdecimal() and spec is not None:
        found = _noise(int(rest), spec)
    else:
        raise InputError(
            f"'{source}' is not a data source.",
            "Write digits:test, cifar10:test, cifar100:test, npz:PATH or random:SEED.",
        )
    if spec is not None:
        _check_fit(source, found, spec)
    return found


def files_of(source: str, folder: Path | None = None) -> list[Path]:
    """Return the files that `load` would read; none for what comes with a package and for what `load` refuses."""
    name, _, rest = source.partition(":")
    if name == "npz":
        return [Path(rest)]
    layout = CIFAR.get(name)
    if layout is None or rest not in layout.files:
        return []
    return [cifar_folder(name, folder) / file for file in (*layout.files[rest], layout.names)]


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


def cifar_folder(name: str, folder: Path | None) -> Path:
    """Return the folder that holds the official binary files of "cifar10" or "cifar100". Raises InputError."""
    root = folder or (Path(os.environ[DATA_VARIABLE]) if DATA_VARIABLE in os.environ else None)
    layout = CIFAR[name]
    advice = (
        f"Download the binary version from {CIFAR_PAGE}, unpack it so that DIR/{layout.folder}/ exists, and pass "
        f"--data-dir DIR (or set {DATA_VARIABLE}=DIR)."
    )
    if root is None:
        raise InputError(f"{name} is not embedded and no folder was given.", advice)
    for candidate in (root / layout.folder, root):
        if (candidate / layout.files["test"][0]).is_file():
            return candidate
    raise InputError(f"There is no {name} in {root}: {layout.folder}/{layout.files['test'][0]} is missing.", advice)


def _cifar(name: str, split: str, folder: Path | None) -> ImageSet:
    layout = CIFAR[name]
    place = cifar_folder(name, folder)
    width = layout.label_bytes + 3 * 32 * 32
    parts = []
    for file in layout.files[split]:
        records = layout.records or (50_000 if split == "train" else 10_000)
        path = require_file(place / file, f"{name} file")
        if path.stat().st_size != records * width:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes; {name}'s has {records * width:,}.",
                f"It is cut short or another file: unpack the archive from {CIFAR_PAGE} again.",
            )
        parts.append(np.fromfile(path, np.uint8).reshape(records, width))
    table = np.concatenate(parts)
    classes = tuple(require_file(place / layout.names, "list of classes").read_text(errors="replace").split())
    labels = table[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= len(classes):
        raise InputError(f"{place} has label {labels.max()} but {len(classes)} classes.", "Unpack the archive again.")
    images = np.ascontiguousarray(table[:, layout.label_bytes :]).reshape(-1, 3, 32, 32)
    return ImageSet(images, labels, classes)


def _npz(path: Path, spec: InputSpec | None) -> ImageSet:
    """Arrays `images` (N, C, H, W) uint8 and, if there, `labels` (N,) of a NumPy archive.

    It holds no names of classes: they are those of `spec`, or else numbers.
    """
    require_file(path, "NumPy archive")
    try:
        images, labels = _npz_arrays(path)
    except Exception as error:  # noqa: BLE001 (damaged bytes make NumPy's reader fail in any way there is)
        raise InputError(
            f"{path} is not a NumPy archive with an array `images`: {reason(error)}.",
            "Write it with numpy.savez(path, images=uint8 array (N, C, H, W), labels=int array (N,)).",
        ) from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise InputError(f"`images` in {path} is {images.dtype} {images.shape}.", "It must be uint8 (N, C, H, W).")
    if labels is None:
        return ImageSet(images, None, spec.classes if spec else ())
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise InputError(
            f"`labels` in {path} is {labels.dtype} {labels.shape}.",
            f"They must be whole numbers ({len(images)},), one for each image.",
        )
    # Before they become int64: a large uint64 would turn negative.
    least, largest = int(labels.min()), int(labels.max())
    if least < 0 or largest >= MOST_CLASSES:
        raise InputError(
            f"`labels` in {path} are from {least} to {largest}.",
            f"They must be places in the list of classes: 0 to {MOST_CLASSES - 1:,}, not negative.",
        )
    names = spec.classes if spec else tuple(str(index) for index in range(largest + 1))
    return ImageSet(images, labels.astype(np.int64), names)


def _npz_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return `images` and `labels` of an archive. Raises whatever NumPy raises."""
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise TypeError("it is a single array (.npy)")
    with archive:
        return np.asarray(archive["images"]), np.asarray(archive["labels"]) if "labels" in archive else None


def _noise(seed: int, spec: InputSpec) -> ImageSet:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (RANDOM_IMAGES, *spec.shape), np.uint8)
    return ImageSet(images, None, spec.classes)
