"""CIFAR-10 and CIFAR-100 in their official "binary version"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.data import places
from rc_deploy.data.sets import ImageSet
from rc_deploy.errors import InputError
from rc_deploy.files import require_file

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Files of one CIFAR data set.

    A record is `label_bytes` label bytes, of which the last counts, then 3072 pixels in (C, H, W) order.

    Attributes:
        folder: that the official archive unpacks to.
        files: of each split, with the number of records in each.
        label_bytes: 1 or 2.
        names: file of the classes' names.
    """

    folder: str
    files: dict[str, dict[str, int]]
    label_bytes: int
    names: str

    def sizes(self, split: str) -> dict[str, int]:
        """Return the size in bytes of each file of records."""
        return {file: records * (self.label_bytes + PIXELS) for file, records in self.files[split].items()}


LAYOUTS = {
    "cifar10": Layout(
        folder="cifar-10-batches-bin",
        files={"train": {f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}, "test": {"test_batch.bin": 10_000}},
        label_bytes=1,
        names="batches.meta.txt",
    ),
    "cifar100": Layout(
        folder="cifar-100-binary",
        files={"train": {"train.bin": 50_000}, "test": {"test.bin": 10_000}},
        label_bytes=2,
        names="fine_label_names.txt",
    ),
}


def files(name: str, split: str, folder: Path | None) -> list[Path]:
    """Return the files that `load` reads. Raises InputError where the data set is not there."""
    layout = LAYOUTS[name]
    place = _place(name, folder)
    return [place / file for file in (*layout.files[split], layout.names)]


def load(name: str, split: str, folder: Path | None) -> ImageSet:
    """Load a split of "cifar10" or "cifar100". Raises InputError for missing, short or damaged files."""
    layout = LAYOUTS[name]
    place = _place(name, folder)
    again = f"Get it again: {places.download_command(name, folder or 'DIR')}"
    for file, kind in (*((file, f"{name} file") for file in layout.files[split]), (layout.names, "list of classes")):
        if not (place / file).exists():
            raise InputError(f"There is no {kind} at {place / file}.", again)
    parts = []
    for file, size in layout.sizes(split).items():
        path = require_file(place / file, f"{name} file")
        if path.stat().st_size != size:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes; {name}'s has {size:,}.",
                f"It is cut short or another file. {again}",
            )
        parts.append(np.fromfile(path, np.uint8).reshape(-1, layout.label_bytes + PIXELS))
    table = np.concatenate(parts)
    classes = tuple(require_file(place / layout.names, "list of classes").read_text(errors="replace").split())
    labels = table[:, layout.label_bytes - 1].astype(np.int64)
    if labels.max() >= len(classes):
        raise InputError(f"{place} has label {labels.max()} but {len(classes)} classes.", f"Move it away. {again}")
    images = np.ascontiguousarray(table[:, layout.label_bytes :]).reshape(-1, 3, 32, 32)
    return ImageSet(images, labels, classes)


def _place(name: str, folder: Path | None) -> Path:
    layout = LAYOUTS[name]
    advice = f"Get it: {places.download_command(name, folder or 'DIR')}"
    return places.find(name, folder, layout.folder, next(iter(layout.files["test"])), advice)
