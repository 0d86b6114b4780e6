"""Comparing two networks' logits on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.significance import mcnemar, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.5, 0.9, 0.99, 1.0)
MOST_LIKELY = 5


@dataclass(frozen=True)
class Comparison:
    """How far an artefact's logits are from its reference's.

    Attributes:
        images: number of images N.
        max_error: largest absolute difference of a logit; infinite where one of the two is not a number.
        mean_error: mean absolute difference.
        cosine: smallest cosine of the angle between an image's two logit vectors.
        agreement: images with the same most likely class, percent.
        flips: the images without, by their number in the data set.
        reference_accuracy: percent of images that the reference classifies right; None without labels.
        artefact_accuracy: the same for the artefact.
        error_quantiles: absolute difference not exceeded by 50, 90, 99 and 100 percent of the logits (`QUANTILES`).
        error_p999: that not exceeded by 99.9 percent.
        top5_agreement: images whose five most likely classes are the same five, percent; None for five classes or less.
        flipped: most likely class of the reference and of the artefact, for each of `flips`.
        reference_interval: Wilson's 95% interval of its accuracy, percent; None without labels.
        artefact_interval: the same for the artefact.
        lost: images that only the reference classifies right; None without labels.
        won: images that only the artefact classifies right; None without labels.
        mcnemar: p-value of McNemar's exact test on these two; None without labels.
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
    error_p999: float
    top5_agreement: float | None
    flipped: tuple[tuple[int, int], ...]
    reference_interval: tuple[float, float] | None
    artefact_interval: tuple[float, float] | None
    lost: int | None
    won: int | None
    mcnemar: float | None


def compare(
    reference: NDArray[np.floating],
    artefact: NDArray[np.floating],
    labels: NDArray[np.int64] | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> Comparison:
    """Compare logits (N, K) with the reference's (N, K).

    Args:
        reference: its logits.
        artefact: its logits.
        labels: right classes (N,), which give the accuracies.
        numbers: of the images (N,) in their data set; 0 to N - 1 by default.
    """
    if reference.shape != artefact.shape:
        raise ValueError(f"logits differ in shape: {reference.shape} and {artefact.shape}")
    expected, found = reference.astype(np.float64), artefact.astype(np.float64)
    error = absolute_error(expected, found)
    classes, artefact_classes = expected.argmax(1), found.argmax(1)
    flips = np.flatnonzero(classes != artefact_classes)
    right = None if labels is None else classes == labels
    artefact_right = None if labels is None else artefact_classes == labels
    lost, won = _changed(right, artefact_right), _changed(artefact_right, right)
    quantiles = np.quantile(error, (*QUANTILES, 0.999), method="lower").tolist()
    return Comparison(
        images=len(reference),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        cosine=smallest_cosine(expected, found),
        agreement=100 * (len(reference) - len(flips)) / len(reference),
        flips=tuple((flips if numbers is None else numbers[flips]).tolist()),
        reference_accuracy=_accuracy(right),
        artefact_accuracy=_accuracy(artefact_right),
        error_quantiles=tuple(quantiles[:-1]),
        error_p999=quantiles[-1],
        top5_agreement=_same_most_likely(expected, found),
        flipped=tuple(zip(classes[flips].tolist(), artefact_classes[flips].tolist(), strict=True)),
        reference_interval=_interval(right),
        artefact_interval=_interval(artefact_right),
        lost=lost,
        won=won,
        mcnemar=None if lost is None or won is None else mcnemar(lost, won),
    )


def absolute_error(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |found - expected|, infinite where one of the two is not a finite number."""
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
    error[~np.isfinite(error)] = np.inf
    return error


def smallest_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the smallest cosine between rows of two (N, K); 0 where it is not a number."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.sum(a * b, axis=1) / norms
    return float(np.nan_to_num(cosine, nan=0.0).min())


def _same_most_likely(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float | None:
    if expected.shape[1] <= MOST_LIKELY:
        return None
    expected_best, found_best = (
        np.sort(np.argpartition(-logits, MOST_LIKELY - 1)[:, :MOST_LIKELY]) for logits in (expected, found)
    )
    return 100 * float((expected_best == found_best).all(axis=1).mean())


def _accuracy(right: NDArray[np.bool_] | None) -> float | None:
    return None if right is None else 100 * float(right.mean())


def _interval(right: NDArray[np.bool_] | None) -> tuple[float, float] | None:
    if right is None:
        return None
    low, high = wilson(int(right.sum()), len(right))
    return 100 * low, 100 * high


def _changed(before: NDArray[np.bool_] | None, after: NDArray[np.bool_] | None) -> int | None:
    """Return how many images are right before and wrong after; None without labels."""
    return None if before is None or after is None else int((before & ~after).sum())
