"""Which range of a tensor a narrow type shall represent: what is measured of it, and three methods to choose.

A histogram counts magnitudes |x| in `BINS` equal bins up to a power of two, which doubles, pairs of bins merging, when
a larger value comes. So it depends on the values alone, and not on how they were cut into batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.specs import CalibrationMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BINS = 4096
# Share of the values that the percentile method represents, percent.
PERCENTILE = 99.99
# Values that are counted at a time: what is made of them stays in the processor's cache.
_BLOCK = 2**16
# The entropy method compares as many levels as int8 has magnitudes, at every `_STRIDE`-th bin.
_LEVELS, _STRIDE = 128, 16


class Histogram:
    """What was seen of a tensor.

    Args:
        counting: magnitudes, which takes ten times as long as finding the largest, all that minmax asks for.

    Attributes:
        counts: values by magnitude, (BINS,) int64.
        limit: where the last bin ends; a power of two, 0 before anything but zeros was seen.
        largest: magnitude.
    """

    def __init__(self, counting: bool = True) -> None:
        self._counting = counting
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count `values`, of any shape. Raises ValueError where one is infinite or no number."""
        flat = values.reshape(-1)
        largest = float(max(flat.max(initial=0), -flat.min(initial=0)))  # NaN and infinity come through
        if not math.isfinite(largest):
            raise ValueError("values that are no numbers have no range")
        self.largest = max(self.largest, largest)
        if not self._counting:
            return
        self._reach(self.largest)
        scale = np.float32(BINS / self.limit if self.limit else 0)
        for start in range(0, len(flat), _BLOCK):
            bins = np.abs(flat[start : start + _BLOCK]) * scale
            np.minimum(bins, BINS - 1, out=bins)
            self.counts += np.bincount(bins.astype(np.intp), minlength=BINS)

    def centres(self) -> NDArray[np.float64]:
        """Return the magnitude that stands for each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.limit / BINS), np.float64)

    def mean_square(self) -> float:
        """Return the mean of the values' squares."""
        return float(self.counts @ self.centres() ** 2) / max(int(self.counts.sum()), 1)

    def noise(self, rounded: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """Return the mean square of what `rounded` changes, saturation included, over that of the values."""
        centres = self.centres()
        energy = float(self.counts @ centres**2)
        return float(self.counts @ (rounded(centres) - centres) ** 2) / energy if energy else 0.0

    def range(self, method: CalibrationMethod) -> float:
        """Return the largest magnitude that shall be represented; what is beyond saturates."""
        if method is CalibrationMethod.MINMAX or not self.limit:
            return self.largest
        bins = _percentile(self.counts) if method is CalibrationMethod.PERCENTILE else _entropy(self.counts)
        return min(bins * self.limit / BINS, self.largest)

    def _reach(self, value: float) -> None:
        if not value:
            return
        wanted = 2.0 ** math.ceil(math.log2(value))
        if not self.limit:
            self.limit = wanted
        while self.limit < wanted:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2


def _percentile(counts: NDArray[np.int64]) -> int:
    """Return how many bins hold `PERCENTILE` of the values."""
    return int(np.searchsorted(np.cumsum(counts), counts.sum() * (PERCENTILE / 100))) + 1


def _entropy(counts: NDArray[np.int64]) -> int:
    """Return how many bins to represent, so that as little information as possible is lost.

    For each candidate n, the distribution P of the values, those beyond in bin n, is held against the Q that is left of
    the first n bins on `_LEVELS` levels; the least Kullback-Leibler divergence sum P log(P / Q) wins. Source: Migacz,
    "8-bit Inference with TensorRT", GTC 2017. The first bin, of zeros, which every range represents, does not count.
    """
    counts = counts.copy()
    counts[0] = 0
    candidates = range(_LEVELS, int(np.flatnonzero(counts)[-1:].max(initial=0)) + 1 + _STRIDE, _STRIDE)
    divergences = [_divergence(counts, min(bins, BINS)) for bins in candidates]
    return min(candidates[int(np.argmin(divergences))], BINS) if divergences else BINS


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    kept = counts[:bins].astype(np.float64)
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    starts = np.arange(_LEVELS) * bins // _LEVELS
    level = np.repeat(np.arange(_LEVELS), np.diff([*starts, bins]))
    filled = kept > 0
    members = np.maximum(np.add.reduceat(filled.astype(np.float64), starts), 1)
    coarse = np.where(filled, (np.add.reduceat(kept, starts) / members)[level], 0)
    total, coarse_total = clipped.sum(), coarse.sum()
    if not total or not coarse_total:
        return math.inf
    p, q = clipped / total, coarse / coarse_total
    present = p > 0
    # Where saturation alone fills a bin, Q has nothing: as much information is lost as the smallest share can.
    smallest = 1 / (total * BINS)
    return float(np.sum(p[present] * np.log(p[present] / np.maximum(q[present], smallest))))
