"""SVHN's cropped digits in their official format: MATLAB 5 files with arrays X (32, 32, 3, N) and y (N, 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.data import places
from rc_deploy.data.sets import ImageSet
from rc_deploy.errors import InputError, reason
from rc_deploy.files import require_file
from rc_deploy.optional import require

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FOLDER = "svhn"
FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
RECORDS = {"train": 73_257, "test": 26_032}


def files(split: str, folder: Path | None) -> list[Path]:
    """Return the file that `load` reads. Raises InputError where the data set is not there."""
    advice = f"Get it: {places.download_command('svhn', folder or 'DIR')}"
    return [places.find("svhn", folder, FOLDER, FILES[split], advice) / FILES[split]]


def load(split: str, folder: Path | None) -> ImageSet:
    """Load a split; the file's label 10 is the digit 0.

    Raises:
        InputError: the file is missing, short or damaged, or holds something else.
        MissingDependencyError: SciPy, which reads MATLAB's files, is not installed.
    """
    path = require_file(files(split, folder)[0], "SVHN file")
    io = require("scipy.io", "SVHN")
    try:
        pixels, digits = _arrays(io, path, RECORDS[split])
    except Exception as error:  # noqa: BLE001 (damaged bytes make SciPy's reader fail in any way there is)
        raise InputError(
            f"{path} is not SVHN's: {reason(error)}.",
            f"It is cut short or another file. Get it again: {places.download_command('svhn', folder or 'DIR')}",
        ) from None
    return ImageSet(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)), digits % 10, tuple("0123456789"))


def _arrays(io: Any, path: Path, records: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return X, and y as (N,) int64. Raises ValueError, and whatever SciPy raises."""
    expected = {"X": (32, 32, 3, records), "y": (records, 1)}
    # The shapes are looked at before anything is read: a hostile file may claim more than the memory holds.
    claimed = {name: shape for name, shape, _ in io.whosmat(str(path), appendmat=False)}
    for name, shape in expected.items():
        if claimed.get(name) != shape:
            raise ValueError(f"its array {name} is {claimed.get(name, 'missing')}, not {shape}")
    found = io.loadmat(str(path), appendmat=False, variable_names=tuple(expected))
    pixels, digits = found["X"], found["y"]
    if pixels.dtype != np.uint8 or pixels.shape != expected["X"] or digits.shape != expected["y"]:
        raise ValueError(f"its arrays are {pixels.dtype} {pixels.shape} and {digits.dtype} {digits.shape}")
    if not np.isin(digits, range(1, 11)).all():
        raise ValueError("it has labels other than 1 to 10")
    return pixels, digits[:, 0].astype(np.int64)
