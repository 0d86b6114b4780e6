"""Comparing two networks' logits on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """How far an artefact's logits are from its reference's.

    Attributes:
        images: number of images N.
        max_error: largest absolute difference of a logit; infinite where one of the two is not a number.
        mean_error: mean absolute difference.
        cosine: smallest cosine of the angle between an image's two logit vectors.
        agreement: images with the same most likely class, percent.
        flips: indices of the images without.
        reference_accuracy: percent of images that the reference classifies right; None without labels.
        artefact_accuracy: the same for the artefact.
        error_quantiles: absolute difference not exceeded by 50, 90, 99 and 100 percent of the logits.
    """

    images: int
    max_error: float
    mean_error: float
    cosine: float
    agreement: float
    flips: tuple[int, ...]
    reference_accuracy: float | None
    artefact_accuracy: float | None
    error_quantiles: tuple[float, float, float, float]


def compare(
    reference: NDArray[np.float32], artefact: NDArray[np.float32], labels: NDArray[np.int64] | None = None
) -> Comparison:
    """Compare logits (N, K) with the reference's (N, K); `labels` (N,) give the accuracies."""
    if reference.shape != artefact.shape:
        raise ValueError(f"logits differ in shape: {reference.shape} and {artefact.shape}")
    expected, found = reference.astype(np.float64), artefact.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
    error[~np.isfinite(error)] = np.inf
    same = found.argmax(1) == expected.argmax(1)
    return Comparison(
        images=len(reference),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        cosine=_smallest_cosine(expected, found),
        agreement=100 * float(same.mean()),
        flips=tuple(np.flatnonzero(~same).tolist()),
        reference_accuracy=_accuracy(expected, labels),
        artefact_accuracy=_accuracy(found, labels),
        error_quantiles=tuple(np.quantile(error, (0.5, 0.9, 0.99, 1.0), method="lower").tolist()),
    )


def _smallest_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.sum(a * b, axis=1) / norms
    return float(np.nan_to_num(cosine, nan=0.0).min())


def _accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64] | None) -> float | None:
    return None if labels is None else 100 * float((logits.argmax(1) == labels).mean())
