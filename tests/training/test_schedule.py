"""The learning rate against the formulas, at places where it can be said in numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from rc_training import recipe as recipes
from rc_training.schedule import learning_rate

EPOCH = 100  # steps
COSINE = replace(recipes.load("digits"), epochs=10, warmup_epochs=2, learning_rate=0.1)
STEP = replace(COSINE, schedule="step", step_epochs=3, step_factor=0.1)


def test_landmarks() -> None:
    at = {step: learning_rate(COSINE, step, EPOCH) for step in (0, 100, 200, 400, 600, 1000)}
    assert at[0] == pytest.approx(0.001)
    assert at[100] == pytest.approx(0.1 * 0.505)
    assert at[200] == pytest.approx(0.1)
    assert at[400] == pytest.approx(0.05 * (1 + math.sqrt(0.5)))
    assert at[600] == pytest.approx(0.05)
    assert at[1000] == pytest.approx(0, abs=1e-12)


def test_the_cosine_ends_at_the_minimum() -> None:
    recipe = replace(COSINE, min_learning_rate=0.02)
    assert learning_rate(recipe, 0, EPOCH) == pytest.approx(0.001)
    assert learning_rate(recipe, 200, EPOCH) == pytest.approx(0.1)
    assert learning_rate(recipe, 600, EPOCH) == pytest.approx(0.06)
    assert learning_rate(recipe, 1000, EPOCH) == pytest.approx(0.02)
    assert learning_rate(recipe, 999, EPOCH) > 0.02


def test_rises_then_falls_and_stays_positive() -> None:
    rates = [learning_rate(COSINE, step, EPOCH) for step in range(1000)]
    assert all(a < b for a, b in pairwise(rates[:201]))
    assert all(a > b for a, b in pairwise(rates[200:]))
    assert min(rates) > 0


def test_no_warmup_starts_at_the_peak() -> None:
    recipe = replace(COSINE, warmup_epochs=0)
    assert learning_rate(recipe, 0, EPOCH) == 0.1
    assert learning_rate(replace(recipe, epochs=1), 0, 1) == 0.1


def test_steps() -> None:
    """Steps are counted from the first epoch, and the warm-up lies over them."""
    rates = [learning_rate(STEP, step, EPOCH) for step in range(1000)]
    assert rates[:200] == [learning_rate(COSINE, step, EPOCH) for step in range(200)]
    assert rates[200:300] == [pytest.approx(0.1)] * 100
    assert rates[300:600] == [pytest.approx(0.01)] * 300
    assert rates[600:900] == [pytest.approx(0.001)] * 300
    assert rates[900:] == [pytest.approx(0.0001)] * 100
    assert learning_rate(replace(STEP, step_factor=0.5), 650, EPOCH) == pytest.approx(0.025)
