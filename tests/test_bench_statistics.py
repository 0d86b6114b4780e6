"""Intervals of benchmarks, on simulated turns: they hold the truth as often as they claim, and find what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from rc_deploy.bench import statistics
from rc_deploy.bench.statistics import Turn, difference, interval, standard_error, student_t, summarise
from rc_deploy.runners import DeviceTime

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOADS, ROUNDS, EXPERIMENTS = 10, 20, 200


def noisy_ratios(rng: np.random.Generator, ratio: float = 1.0, memory: float = 0.9) -> list[NDArray[np.float64]]:
    """Ratios of an experiment as they are met on a shared machine, of LOADS loads with ROUNDS rounds.

    Each load has an offset of its own; single runs scatter and are disturbed, some badly; and one of the two artefacts
    is slowed down by what wanes over about 1 / (1 - memory) rounds, across loads.
    """
    logs = np.log(ratio) + np.repeat(rng.normal(0, 0.01, LOADS), ROUNDS)
    for sign in (1, -1):
        logs += sign * rng.normal(0, 0.01, len(logs))
        logs += sign * (rng.random(len(logs)) < 0.03) * rng.exponential(0.3, len(logs))
    wave = 0.0
    for index in range(len(logs)):
        wave = memory * wave + rng.normal(0, 0.02 * np.sqrt(1 - memory**2))
        logs[index] += wave
    return np.split(np.exp(logs), LOADS)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_an_artefact_against_itself_contains_one(memory: float) -> None:
    rng = np.random.default_rng(1)
    bounds = [interval(noisy_ratios(rng, memory=memory)) for _ in range(EXPERIMENTS)]
    # 99% is claimed; 19 of 20 are due. Of 200 experiments at 98% a count below this is a chance of 1 in 100.
    assert np.mean([low <= 1 <= high for low, high in bounds]) >= 0.955


def test_a_slow_down_of_five_percent_is_found() -> None:
    rng = np.random.default_rng(2)
    bounds = [interval(noisy_ratios(rng, ratio=1 / 1.05)) for _ in range(EXPERIMENTS)]
    assert np.mean([high < 1 for _, high in bounds]) >= 0.95
    assert np.mean([low <= 1 / 1.05 <= high for low, high in bounds]) >= 0.955


def test_single_rounds_would_claim_too_much() -> None:
    """The noise is such that the bootstrap that knows no loads is wrong in every third experiment or more."""
    rng = np.random.default_rng(3)
    bounds = []
    for _ in range(100):
        singles = np.array_split(np.concatenate(noisy_ratios(rng)), LOADS * ROUNDS)
        bounds.append(interval(singles))
    assert np.mean([low <= 1 <= high for low, high in bounds]) < 0.67


def test_bootstrap_draws_whole_loads() -> None:
    """Its error is that of medians of concatenated loads, computed here without tricks."""
    rng = np.random.default_rng(4)
    loads = [rng.normal(offset, 1, size) for offset, size in ((0, 5), (1, 9), (3, 31), (0.5, 7))]
    draws = np.random.default_rng(5).integers(0, 4, (4000, 4))
    expected = np.std([np.median(np.concatenate([loads[index] for index in draw])) for draw in draws])
    assert statistics._bootstrap_error(loads) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 9, 40.5, 1000])
def test_students_quantiles(freedom: float) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.5 + statistics.CONFIDENCE / 2, freedom), rel=1e-3)


def test_medians_measured_apart_are_compared_by_welchs_test() -> None:
    """In at least as many of 100 as claimed, less chance; and twice the time is always found."""
    rng = np.random.default_rng(6)

    def measured(loads: int, scatter: float, factor: float = 1.0) -> tuple[float, tuple[float, float], int]:
        times = [factor * np.exp(rng.normal(0, scatter) + rng.normal(0, 0.01, 20)) for _ in range(loads)]
        return float(np.median(np.concatenate(times))), interval(times), loads

    same = [difference(measured(10, 0.02), measured(6, 0.05)) for _ in range(200)]
    assert np.mean([low <= 1 <= high for _, (low, high) in same]) >= 0.955
    twice = [difference(measured(10, 0.02), measured(6, 0.05, factor=2.0)) for _ in range(50)]
    assert all(low > 1 for _, (low, _) in twice)


def test_standard_error_is_read_off_an_interval() -> None:
    reach = 0.03 * student_t(9)
    assert standard_error((np.exp(-reach), np.exp(reach)), 10) == pytest.approx(0.03)


def test_summary_of_known_turns() -> None:
    times = [[0.002, 0.001], [0.004, 0.001], [0.006, 0.002]]
    rounds = [[Turn((time,), time) for time in row] for row in times]
    timing = summarise(1, 8, [rounds, rounds])
    assert (timing.p50, timing.fastest, timing.rounds, timing.loads) == (1.0, 1.0, 6, 2)
    assert timing.images_per_second == pytest.approx(8000)
    assert timing.ratio == pytest.approx(3.0)  # the rounds' ratios are 2, 4 and 3
    assert timing.ratio_interval[0] <= 3.0 <= timing.ratio_interval[1]
    assert timing.spread == pytest.approx(0.75)  # quartiles 1 and 1.75 ms
    assert summarise(0, 8, [rounds, rounds]).ratio_interval == (1.0, 1.0)


def test_callers_at_once_count_together() -> None:
    """Two calls of 3 ms that take 4 ms together: latency is 3 ms, throughput that of 2 ms a call."""
    turns = [[Turn((0.003, 0.003), 0.004)] for _ in range(3)]
    timing = summarise(0, 10, [turns, turns])
    assert timing.p50 == pytest.approx(3.0)
    assert timing.images_per_second == pytest.approx(5000)


def test_times_on_a_gpu_are_medians_of_their_parts() -> None:
    turns = [[Turn((0.01,), 0.01, DeviceTime(1.0 + extra, 2.0 + extra, 3.0))] for extra in (0.0, 1.0, 5.0)]
    assert summarise(0, 1, [turns, turns]).device == DeviceTime(2.0, 3.0, 3.0)


def test_loads_that_differ_beyond_all_bounds_give_a_finite_interval() -> None:
    low, high = interval([np.array([1e-30, 1e-30]), np.array([1e30, 1e30])])
    assert 0 < low < 1e-30
    assert 1e30 < high < np.inf
