"""A span: a stretch of a run's time that one layer took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RC, GCLU, OTHER = "rc", "gclu", "other"


@dataclass(frozen=True)
class Span:
    """What one layer took.

    Attributes:
        layer: the module's name.
        kind: RC, GCLU or OTHER.
        operator: what the library ran.
        seconds: per run.
        moved: bytes that it reads and writes in a run: its inputs, weights and outputs, each once.
    """

    layer: str
    kind: str
    operator: str
    seconds: float
    moved: int = 0


def per_run(seconds: Sequence[float], runs: int) -> float:
    """Return what something took in a run, from all its times in so many, of which a few may have been disturbed."""
    return float(np.median(seconds)) * len(seconds) / runs
