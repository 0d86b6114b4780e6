"""The parity matrix: a chain of programs for one network, each held against the one before it and the reference.

The step from one link to the next shows where an error arises, the sum from the reference on what it has come to.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.compare import Comparison, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rc_deploy.specs import Precision
    from rc_deploy.tolerances import Tolerance


@dataclass(frozen=True)
class Link:
    """One program of the chain, and what it computed.

    Attributes:
        title: what it is, for tables.
        runner: what ran it.
        precision: of weights and activations.
        logits: (N, K) of the first N images; only the reference's float64 may have fewer than all.
        tolerance: on its difference from the reference; None for the reference.
    """

    title: str
    runner: str
    precision: Precision | str
    logits: NDArray[np.floating]
    tolerance: Tolerance | None


@dataclass(frozen=True)
class Measured:
    """A comparison, and the tolerance on it: `used` is the largest error in units of that."""

    comparison: Comparison
    maximum: float
    mean: float

    @property
    def used(self) -> float:
        """Return the largest error in units of its tolerance."""
        error = self.comparison.max_error
        return error / self.maximum if self.maximum else np.inf if error else 0.0


@dataclass(frozen=True)
class Row:
    """One link of the matrix: `step` is against the link before it, `sum` against the reference.

    `step` is None for the first link; `sum` for the reference and what stands before it.
    """

    title: str
    runner: str
    precision: str
    images: int
    accuracy: float | None
    interval: tuple[float, float] | None
    step: Measured | None
    sum: Measured | None

    @property
    def comparisons(self) -> tuple[tuple[str, Measured | None], ...]:
        """What is known of the link, each under "step", "sum", or "both" where the two are one; never empty."""
        if self.step is not None and self.step == self.sum:
            return (("both", self.sum),)
        known = tuple((name, part) for name, part in (("step", self.step), ("sum", self.sum)) if part is not None)
        return known or (("", None),)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        used = {name: {"used": part.used} for name, part in (("step", self.step), ("sum", self.sum)) if part}
        row = asdict(self)
        return {**row, **{name: {**row[name], **extra} for name, extra in used.items()}}


def matrix(
    links: Sequence[Link],
    labels: NDArray[np.int64] | None,
    numbers: NDArray[np.int64] | None = None,
) -> tuple[Row, ...]:
    """Compare each link with the one before it and with the reference.

    Args:
        links: in order; the reference is the one without a tolerance. What stands before it, its float64, may have
            fewer images, and is compared on those.
        labels: right classes (N,) of the images.
        numbers: of the images (N,) in their data set.
    """
    reference = next(index for index, link in enumerate(links) if link.tolerance is None)
    rows = []
    for index, link in enumerate(links):
        whole = _measured(links[reference], link, link.tolerance, labels, numbers) if index > reference else None
        if index == 0:
            step = None
        elif index == reference + 1:
            step = whole
        else:
            step = _measured(links[index - 1], link, _between(links[index - 1], link), labels, numbers)
        own = compare(link.logits, link.logits, None if labels is None else labels[: len(link.logits)])
        rows.append(
            Row(
                title=link.title,
                runner=link.runner,
                precision=str(link.precision),
                images=len(link.logits),
                accuracy=own.artefact_accuracy,
                interval=own.artefact_interval,
                step=step,
                sum=whole,
            )
        )
    return tuple(rows)


def _between(before: Link, link: Link) -> Tolerance | None:
    """Return the tolerance of a step: the errors of two programs against the reference are independent."""
    if before.tolerance is None or link.tolerance is None:
        return before.tolerance or link.tolerance
    maximum, mean = (
        float(np.hypot(getattr(before.tolerance, name), getattr(link.tolerance, name))) for name in ("maximum", "mean")
    )
    return replace(link.tolerance, maximum=maximum, mean=mean)


def _measured(
    before: Link,
    link: Link,
    tolerance: Tolerance | None,
    labels: NDArray[np.int64] | None,
    numbers: NDArray[np.int64] | None,
) -> Measured | None:
    if tolerance is None:
        return None
    count = min(len(before.logits), len(link.logits))
    pair = (before.logits[:count], link.logits[:count])
    labels, numbers = (None if values is None else values[:count] for values in (labels, numbers))
    return Measured(compare(*pair, labels, numbers), tolerance.maximum, tolerance.mean)
