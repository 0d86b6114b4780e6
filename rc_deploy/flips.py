"""The images whose class changed, to be looked at: pixels, what they are, and how sure both programs were."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rc_deploy.data import ImageSet

    Logits = NDArray[np.floating]

# So many are kept for an artefact; those of which the reference was surest, for they ought to have held.
MOST = 24
# Longest side of a picture that is kept: whole for CIFAR, enough to see what a larger one shows.
LONGEST_SIDE = 64


@dataclass(frozen=True)
class Flip:
    """One image whose most likely class is another one.

    Attributes:
        number: of the image in its data set.
        label: its right class; None where the data have no labels.
        expected: class by the reference.
        found: class by the artefact.
        expected_probability: softmax of the reference's logits for `expected`.
        found_probability: softmax of the artefact's logits for `found`.
        shape: (C, H, W) of `pixels`.
        pixels: uint8 in base64, a text for each row (C, W) of the picture.
    """

    number: int
    label: str | None
    expected: str
    found: str
    expected_probability: float
    found_probability: float
    shape: tuple[int, int, int]
    pixels: tuple[str, ...]

    def picture(self) -> NDArray[np.uint8]:
        """Return the pixels (H, W, C). Raises ValueError where they are not what `shape` says."""
        channels, height, width = self.shape
        if channels not in (1, 3) or not 0 < height == len(self.pixels) or not 0 < width <= LONGEST_SIDE >= height:
            raise ValueError(f"a picture of {len(self.pixels)} rows has the shape {list(self.shape)}")
        rows = [base64.b64decode(row, validate=True) for row in self.pixels]
        if any(len(row) != channels * width for row in rows):
            raise ValueError(f"a row of a picture does not hold {channels * width} bytes")
        return np.frombuffer(b"".join(rows), np.uint8).reshape(height, channels, width).transpose(0, 2, 1)


def flips(reference: Logits, artefact: Logits, images: ImageSet, classes: tuple[str, ...]) -> tuple[Flip, ...]:
    """Return at most `MOST` images whose class changed, the reference's surest first.

    Args:
        reference: its logits (N, K).
        artefact: its logits (N, K).
        images: N of them.
        classes: names of the K classes; where there are none, their numbers.
    """
    before, after = reference.argmax(1), artefact.argmax(1)
    rows = np.arange(len(before))
    sure, found = _softmax(reference)[rows, before], _softmax(artefact)[rows, after]
    changed = np.flatnonzero(before != after)
    surest = changed[np.argsort(-sure[changed], kind="stable")][:MOST]
    return tuple(
        Flip(
            number=int(index if images.numbers is None else images.numbers[index]),
            label=None if images.labels is None else _name(classes, int(images.labels[index])),
            expected=_name(classes, int(before[index])),
            found=_name(classes, int(after[index])),
            expected_probability=float(sure[index]),
            found_probability=float(found[index]),
            shape=picture.shape,
            pixels=tuple(base64.b64encode(row.tobytes()).decode() for row in picture.transpose(1, 0, 2)),
        )
        for index in surest.tolist()
        for picture in [_thumbnail(images.images[index])]
    )


def _softmax(logits: Logits) -> NDArray[np.float64]:
    """Return the probabilities (N, K); a logit that is not a number counts as the least likely."""
    finite = np.nan_to_num(logits.astype(np.float64), nan=-1e300, posinf=1e300, neginf=-1e300)
    exponentials = np.exp(finite - finite.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def _name(classes: tuple[str, ...], index: int) -> str:
    return classes[index] if index < len(classes) else str(index)


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every k-th pixel of an image (C, H, W), so that no side is longer than `LONGEST_SIDE`."""
    step = -(-max(image.shape[1:]) // LONGEST_SIDE)
    return np.ascontiguousarray(image[:, ::step, ::step])
