"""From turns to figures with intervals that hold.

Rounds are no independent draws: what else the machine does lasts for many of them, and where a load has put weights
and buffers in memory lasts until the next. An interval from single rounds is therefore far too narrow; a new load, at
another place and another time, is the smallest thing that repeats the experiment (Kalibera & Jones, Rigorous
Benchmarking in Reasonable Time, ISMM 2013). So whole loads, with all their rounds, are what the bootstrap draws: a
block bootstrap whose blocks are the loads (Davison & Hinkley, Bootstrap Methods and their Application, 1997, 3.8).

With K loads, and theta the median over all rounds of a logarithm,

    interval = theta -+ t(K - 1) se sqrt(K / (K - 1)),

se being the standard deviation of theta over the draws, and t Student's quantile: there are few loads, and plain
percentiles of the draws would be too narrow again (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, 12.4).
tests/test_bench_statistics.py holds its coverage against simulated noise that is autocorrelated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.bench.records import Timing
from rc_deploy.runners import DeviceTime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.99
_RESAMPLES = 1000
_GRID = 100_001
_WIDEST = 100.0  # half an interval, in logarithms: wide enough to say nothing, and no overflow
_AT_ONCE = 2**20  # weights of values in draws that are worked out together


@dataclass(frozen=True)
class Turn:
    """One turn of an artefact.

    Attributes:
        latencies: of each call, seconds; several where callers run at once.
        seconds: from the first call's start to the last one's end.
        device: parts of the last call, on a GPU.
    """

    latencies: tuple[float, ...]
    seconds: float
    device: DeviceTime | None = None

    @property
    def pace(self) -> float:
        """Seconds per call, all callers together."""
        return self.seconds / len(self.latencies)


# Turns of one load: by round, and in that by artefact.
Rounds = list[list[Turn]]


def summarise(artefact: int, batch: int, loads: Sequence[Rounds]) -> Timing:
    """Summarise the turns of one artefact, beside those of the first."""
    turns = [[turns[artefact] for turns in rounds] for rounds in loads]
    latencies = [np.array([value for turn in rounds for value in turn.latencies]) for rounds in turns]
    paces = [np.array([turn.pace for turn in rounds]) for rounds in turns]
    ratios = [np.array([row[0].pace for row in rounds]) / pace for rounds, pace in zip(loads, paces, strict=True)]
    own = 1000 * np.concatenate(latencies)
    fastest, p25, p50, p75, p90, p95, p99 = np.percentile(own, (0, 25, 50, 75, 90, 95, 99)).tolist()
    low, ratio, high = np.percentile(np.concatenate(ratios), (25, 50, 75)).tolist()
    bounds = interval(latencies)
    return Timing(
        artefact=artefact,
        batch=batch,
        loads=len(loads),
        rounds=sum(map(len, loads)),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        fastest=fastest,
        spread=(p75 - p25) / p50,
        p50_interval=(1000 * bounds[0], 1000 * bounds[1]),
        images_per_second=batch / float(np.median(np.concatenate(paces))),
        ratio=ratio,
        ratio_spread=(low, high),
        ratio_interval=interval(ratios),
        device=_device([turn.device for rounds in turns for turn in rounds]),
    )


def _device(times: Sequence[DeviceTime | None]) -> DeviceTime | None:
    found = [time for time in times if time is not None]
    if not found:
        return None
    parts = np.median([(time.upload, time.compute, time.download) for time in found], axis=0).tolist()
    return DeviceTime(*parts)


def interval(loads: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the confidence interval of the median of positive values.

    Args:
        loads: the values of each load; at least two loads.
    """
    count = len(loads)
    logs = [np.log(values) for values in loads]
    centre = float(np.median(np.concatenate(logs)))
    reach = min(student_t(count - 1) * _bootstrap_error(logs) * math.sqrt(count / (count - 1)), _WIDEST)
    return math.exp(centre - reach), math.exp(centre + reach)


def _bootstrap_error(loads: Sequence[NDArray[np.float64]]) -> float:
    """Return the standard deviation of the median over draws of whole loads."""
    count = len(loads)
    times_drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, _RESAMPLES)
    values = np.concatenate(loads)
    order = values.argsort()
    load_of = np.repeat(np.arange(count), [len(load) for load in loads])[order]
    places = []
    for some in np.array_split(times_drawn, 1 + times_drawn.shape[0] * len(values) // _AT_ONCE):
        # The median of a draw is the value up to which half of its weight lies.
        weights = some[:, load_of].cumsum(1)
        places.append((2 * weights >= weights[:, -1:]).argmax(1))
    return float(np.std(values[order][np.concatenate(places)], ddof=1))


def standard_error(bounds: tuple[float, float], loads: int) -> float:
    """Return the standard error, of the logarithm, that an interval of that many loads was made from."""
    return math.log(bounds[1] / bounds[0]) / (2 * student_t(loads - 1))


def difference(
    old: tuple[float, tuple[float, float], int], new: tuple[float, tuple[float, float], int]
) -> tuple[float, tuple[float, float]]:
    """Return new by old, and its confidence interval, for medians that were measured apart (Welch's test).

    Args:
        old: median, its interval, and the number of loads.
        new: the same.
    """
    errors = [standard_error(bounds, loads) ** 2 for _, bounds, loads in (old, new)]
    total = sum(errors)
    # Welch-Satterthwaite: how many degrees of freedom a sum of two estimated variances has.
    parts = sum(error**2 / (loads - 1) for error, (_, _, loads) in zip(errors, (old, new), strict=True))
    reach = student_t(total**2 / parts) * math.sqrt(total) if total else 0.0
    change = new[0] / old[0]
    return change, (change * math.exp(-reach), change * math.exp(reach))


@cache
def student_t(freedom: float) -> float:
    """Return the value that Student's t exceeds, on either side, with probability 1 - CONFIDENCE.

    With t = sqrt(freedom) tan(angle) the density is cos(angle)^(freedom - 1), which is summed up on a grid.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    angles = np.linspace(0, math.pi / 2, _GRID)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return math.sqrt(freedom) * math.tan(float(np.interp(CONFIDENCE * below[-1], below, angles)))
