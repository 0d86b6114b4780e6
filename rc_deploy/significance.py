"""How much a count of right answers proves: intervals for one network and for two on the same images, and a test."""

from __future__ import annotations

import math
from statistics import NormalDist

# Two-sided 95% of a normal distribution.
CONFIDENCE, _Z = 0.95, 1.959963984540054


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's score interval of the share that `right` of `total` independent images estimate.

    With p = right / total and z the normal quantile of `CONFIDENCE`, its ends are

        (p + z^2 / (2 total) -+ z sqrt(p (1 - p) / total + z^2 / (4 total^2))) / (1 + z^2 / total)

    (Wilson, 1927). Unlike p -+ z sqrt(p (1 - p) / total) it stays within 0 and 1 and keeps a width at p = 1.

    Raises:
        ValueError: no images, or more right than there are.
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"{right} of {total} images cannot be right")
    share, part = right / total, _Z**2 / total
    middle = share + part / 2
    reach = _Z * math.sqrt(share * (1 - share) / total + part / (4 * total))
    return max(0.0, (middle - reach) / (1 + part)), min(1.0, (middle + reach) / (1 + part))


def mcnemar(lost: int, won: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    It is the probability that, were each of the lost + won images as likely to be lost as won, they split as unevenly
    as this: min(1, 2 P(X <= min(lost, won))), X binomial with lost + won trials of probability 1/2. Images that both
    networks classify right, or both wrong, say nothing about which is better.

    Args:
        lost: images that only the reference classifies right.
        won: images that only the artefact classifies right.

    Raises:
        ValueError: a negative number.
    """
    trials = lost + won
    if min(lost, won) < 0:
        raise ValueError(f"there cannot be {lost} and {won} images")
    # Whole numbers, however large: 2^-10000 would underflow.
    tail, term, total = 0, 1, 1 << trials
    for successes in range(min(lost, won) + 1):
        tail += term
        term = term * (trials - successes) // (successes + 1)
    return min(1.0, 2 * tail / total)


def paired_interval(lost: int, won: int, total: int, looks: int = 1) -> tuple[float, float]:
    """Return the interval of the accuracy that an artefact loses, as a share, from counts on the same images.

    With b = lost + 1/2, c = won + 1/2, n = total + 2 and z the normal quantile of `CONFIDENCE`,

        (b - c) / n -+ z sqrt(b + c - (b - c)^2 / n) / n

    (Agresti and Min, 2005): the standard error of a paired difference, in which images that both classify alike have no
    part. The halves keep a width where no image was lost or won.

    Args:
        lost: images that only the reference classifies right.
        won: images that only the artefact classifies right.
        total: images.
        looks: artefacts that were measured on these images before one was chosen. The chance to err is divided among
            them (Bonferroni).

    Raises:
        ValueError: more lost and won than there are, a negative number, or no look.
    """
    if min(lost, won) < 0 or lost + won > total or looks < 1:
        raise ValueError(f"{lost} and {won} of {total} images cannot be lost and won in {looks} looks")
    quantile = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * looks))
    b, c, n = lost + 0.5, won + 0.5, total + 2
    reach = quantile * math.sqrt(b + c - (b - c) ** 2 / n)
    return (b - c - reach) / n, (b - c + reach) / n
