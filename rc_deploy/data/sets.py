"""Images in memory, and how they are fed to a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rc_deploy.specs import InputSpec


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8, and their labels (N,) int64 where they have any.

    `numbers` (N,) are their places in the data set they were drawn from; None for 0 to N - 1.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    numbers: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def head(self, limit: int | None) -> ImageSet:
        """Return the first `limit` images; all of them for None."""
        labels = None if self.labels is None else self.labels[:limit]
        return ImageSet(self.images[:limit], labels, self.classes)

    def split(self, count: int) -> tuple[ImageSet, ImageSet]:
        """Return the first `count` images, and the others."""
        labels = (None, None) if self.labels is None else (self.labels[:count], self.labels[count:])
        return (
            ImageSet(self.images[:count], labels[0], self.classes),
            ImageSet(self.images[count:], labels[1], self.classes),
        )

    def drawn(self, limit: int, seed: int) -> ImageSet:
        """Return `limit` images drawn without replacement, in the data set's order; all of them if there are no more.

        The same seed draws the same images of the same data set.
        """
        numbers = draw(len(self), limit, seed)
        labels = None if self.labels is None else self.labels[numbers]
        return ImageSet(self.images[numbers], labels, self.classes, numbers)


def draw(total: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Return which `limit` of `total` are drawn by this seed, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:limit])


def normalise(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return what the network takes: (pixels / 255 - mean) / std per channel, (N, C, H, W) float32."""
    mean = np.array(spec.mean, np.float32).reshape(1, -1, 1, 1)
    std = np.array(spec.std, np.float32).reshape(1, -1, 1, 1)
    return (images.astype(np.float32) / np.float32(255) - mean) / std
