"""Images of one's own: a NumPy archive with `images` (N, C, H, W) uint8 and, if there, `labels` (N,)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.data.sets import ImageSet
from rc_deploy.errors import InputError, reason
from rc_deploy.files import require_file
from rc_deploy.specs import MOST_CLASSES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rc_deploy.specs import InputSpec


def load(path: Path, spec: InputSpec | None) -> ImageSet:
    """Load an archive. It holds no names of classes: they are those of `spec`, or else numbers. Raises InputError."""
    require_file(path, "NumPy archive")
    try:
        images, labels = _arrays(path)
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


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return `images` and `labels` of an archive. Raises whatever NumPy raises."""
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise TypeError("it is a single array (.npy)")
    with archive:
        return np.asarray(archive["images"]), np.asarray(archive["labels"]) if "labels" in archive else None
