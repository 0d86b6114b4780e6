"""Comparing logits: known ones give known figures, and what is said of them is what textbooks say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rc_deploy.compare import compare
from rc_deploy.significance import mcnemar, paired_interval, wilson


def test_comparison_of_known_logits() -> None:
    reference = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32)
    artefact = np.array([[1, 0, 0], [0, 2, 0.5], [4, 0, 3]], np.float32)
    found = compare(reference, artefact, np.array([0, 1, 0]), np.array([5, 7, 9]))
    assert found.max_error == 4
    assert found.mean_error == pytest.approx(4.5 / 9)
    assert (found.flips, found.flipped) == ((9,), ((2, 0),))
    assert found.agreement == pytest.approx(200 / 3)
    assert found.cosine == pytest.approx(0.6)
    assert (found.reference_accuracy, found.artefact_accuracy) == pytest.approx((200 / 3, 100))
    assert (found.lost, found.won, found.mcnemar) == (0, 1, 1.0)
    assert found.top5_agreement is None


def test_without_labels_nothing_is_said_of_right_and_wrong() -> None:
    found = compare(np.eye(3), np.eye(3))
    assert {found.reference_accuracy, found.artefact_interval, found.lost, found.mcnemar} == {None}


def test_quantiles_are_those_of_the_errors() -> None:
    errors = np.arange(10_000.0).reshape(1000, 10)
    found = compare(np.zeros_like(errors), errors)
    assert found.error_quantiles == pytest.approx((4999, 8999, 9899, 9999), abs=1)
    assert found.error_p999 == pytest.approx(9989, abs=1)


def test_five_most_likely_classes_are_a_set() -> None:
    """Their order does not count; a sixth that takes the place of one of them does."""
    reference = np.array([[9.0, 8, 7, 6, 5, 4, 3]] * 2)
    artefact = reference.copy()
    artefact[0, :2] = [8, 9]
    artefact[1, 5] = 5.5
    assert compare(reference, artefact).top5_agreement == 50


def test_agreement_is_exact_at_a_threshold() -> None:
    """10 of 10,000 are 99.9% to the last bit, so that --min-agreement 99.9 passes."""
    reference = np.tile([1.0, 0.0], (10_000, 1))
    artefact = reference.copy()
    artefact[:10] = [0, 1]
    assert compare(reference, artefact).agreement == 99.9


@pytest.mark.parametrize(
    ("right", "total", "interval"),
    # Newcombe (1998), Table I, method 3: score without continuity correction.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_interval_is_wilsons(right: int, total: int, interval: tuple[float, float]) -> None:
    assert wilson(right, total) == pytest.approx(interval, abs=5e-5)
    assert wilson(total - right, total) == pytest.approx((1 - interval[1], 1 - interval[0]), abs=5e-5)


def test_interval_needs_images() -> None:
    for right, total in ((0, 0), (2, 1), (-1, 5)):
        with pytest.raises(ValueError, match="cannot be right"):
            wilson(right, total)


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 5, 2 / 2**5), (1, 9, 2 * 11 / 2**10), (2, 12, 2 * (1 + 14 + 91) / 2**14)],
)
def test_mcnemar_is_the_binomials_two_tails(lost: int, won: int, p: float) -> None:
    assert mcnemar(lost, won) == mcnemar(won, lost) == pytest.approx(p)


def test_mcnemar_of_many_images_does_not_underflow() -> None:
    """Against the normal approximation, with its correction for continuity."""
    z = (abs(5200 - 4800) - 1) / math.sqrt(10_000)
    assert mcnemar(5200, 4800) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert 0 < mcnemar(700, 100) < 1e-50
    with pytest.raises(ValueError, match="cannot be -1"):
        mcnemar(-1, 0)


def test_interval_of_a_paired_drop() -> None:
    assert paired_interval(20, 10, 2000) == pytest.approx((0.004995 - 0.005446, 0.004995 + 0.005446), abs=2e-6)
    low, high = paired_interval(0, 0, 5000)
    assert -low == pytest.approx(high)
    assert 1.9 / 5002 < high < 2 / 5002  # as if one image in two had been lost or won
    widths = [high - low for low, high in (paired_interval(20, 10, 2000, looks) for looks in (1, 2, 10))]
    assert widths == sorted(set(widths))
    for wrong in ((-1, 0, 10), (6, 5, 10), (0, 0, 10, 0)):
        with pytest.raises(ValueError, match="cannot be"):
            paired_interval(*wrong)


@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.005), (0.002, 0.002), (0.03, 0.0)])
def test_interval_of_a_paired_drop_holds_the_truth_as_often_as_it_says(
    lost: float, won: float, rng: np.random.Generator
) -> None:
    draws = rng.multinomial(2000, [lost, won, 1 - lost - won], 2000)
    intervals = [paired_interval(int(row[0]), int(row[1]), 2000) for row in draws]
    share = np.mean([low <= lost - won <= high for low, high in intervals])
    assert 0.94 <= share <= 0.98
