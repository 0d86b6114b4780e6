"""What several runs of one recipe say together, that differ in nothing but their seed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rc_deploy.checkpoint import Checkpoint

# Of each figure, what must be known to read it.
MEANINGS = {
    "test_accuracy_last": "after the last epoch: the weights in the checkpoints",
    "test_accuracy_best": "of each run's best epoch, which the test split itself chose: optimistic",
}


@dataclass(frozen=True)
class Spread:
    """Mean and spread of one figure over runs.

    Attributes:
        meaning: what must be known to read it.
        runs: how many there are.
        mean: over them.
        standard_deviation: the sample's, with n - 1; None of a single run.
        minimum: the smallest.
        maximum: the largest.
    """

    meaning: str
    runs: int
    mean: float
    standard_deviation: float | None
    minimum: float
    maximum: float


def spreads(runs: Sequence[Checkpoint]) -> dict[str, Spread]:
    """Return the spread of each figure of `MEANINGS` over at least one run."""
    return {key: _spread(meaning, [run.metrics[key] for run in runs]) for key, meaning in MEANINGS.items()}


def _spread(meaning: str, values: Sequence[float]) -> Spread:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(meaning, len(values), statistics.fmean(values), deviation, min(values), max(values))
