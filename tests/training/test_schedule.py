"""The learning rate against the formula, at places where it can be said in numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from rc_training.schedule import learning_rate

STEPS, WARMUP, PEAK = 1000, 200, 0.1


def test_landmarks() -> None:
    assert learning_rate(0, STEPS, WARMUP, PEAK) == pytest.approx(0.001)
    assert learning_rate(100, STEPS, WARMUP, PEAK) == pytest.approx(0.1 * 0.505)
    assert learning_rate(200, STEPS, WARMUP, PEAK) == pytest.approx(0.1)
    assert learning_rate(400, STEPS, WARMUP, PEAK) == pytest.approx(0.05 * (1 + math.sqrt(0.5)))
    assert learning_rate(600, STEPS, WARMUP, PEAK) == pytest.approx(0.05)
    assert learning_rate(1000, STEPS, WARMUP, PEAK) == pytest.approx(0, abs=1e-12)


def test_rises_then_falls_and_stays_positive() -> None:
    rates = [learning_rate(step, STEPS, WARMUP, PEAK) for step in range(STEPS)]
    assert all(a < b for a, b in pairwise(rates[: WARMUP + 1]))
    assert all(a > b for a, b in pairwise(rates[WARMUP:]))
    assert min(rates) > 0


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate(0, 10, 0, PEAK) == PEAK
    assert learning_rate(0, 1, 0, PEAK) == PEAK
