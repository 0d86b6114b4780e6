"""The numbers beside the violins, against SciPy and against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rc_training.plots.statistics import of_channels, summarised


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return np.array([0] * 30 + [1] * 5 + [4] * 65)


@pytest.fixture
def features(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Skewed values (100, 7) whose means depend on class and channel."""
    return rng.gamma(2, size=(100, 7)) + labels[:, None] * np.arange(7) / 10 - 3


def test_moments_are_scipys(features: np.ndarray) -> None:
    found = of_channels(features, None)
    np.testing.assert_allclose(found.mean, features.mean(axis=0))
    np.testing.assert_allclose(found.std, features.std(axis=0))
    np.testing.assert_allclose(found.skewness, stats.skew(features, axis=0))
    np.testing.assert_allclose(found.excess_kurtosis, stats.kurtosis(features, axis=0))
    assert found.discriminability is None
    assert summarised(found).discriminability is None


def test_discriminability_is_variance_between_over_variance_within(features: np.ndarray, labels: np.ndarray) -> None:
    found = of_channels(features, labels).discriminability
    assert found is not None
    for channel in range(7):
        values = features[:, channel]
        middle = sum(values) / 100
        between = within = 0.0
        for label in (0, 1, 4):
            members = [value for value, own in zip(values, labels, strict=True) if own == label]
            centre = sum(members) / len(members)
            between += len(members) * (centre - middle) ** 2
            within += sum((value - centre) ** 2 for value in members)
        assert found[channel] == pytest.approx(between / within, rel=1e-9)
        # The two are all of the variance there is.
        assert (between + within) / 100 == pytest.approx(values.var(), rel=1e-9)


def test_discriminability_of_two_gaussians(rng: np.random.Generator) -> None:
    """Means 2 apart, deviation 0.5: (1 / 0.5)^2 = 4, whatever unit and origin."""
    labels = np.repeat([0, 1], 200_000)
    values = (rng.normal(0, 0.5, 400_000) + 2 * labels)[:, None]
    for scaled in (values, 1000 * values + 7):
        found = of_channels(scaled, labels).discriminability
        assert found is not None
        assert found[0] == pytest.approx(4, rel=0.02)


def test_a_channel_that_always_says_the_same(labels: np.ndarray) -> None:
    """Its mean is not exact in float64; its deviation is 0 all the same, and it tells nothing apart."""
    found = of_channels(np.full((100, 1), 0.1), labels)
    assert found.discriminability is not None
    assert (found.std[0], found.skewness[0], found.excess_kurtosis[0], found.discriminability[0]) == (0, 0, 0, 0)


def test_classes_that_never_meet(labels: np.ndarray) -> None:
    found = of_channels(labels[:, None].astype(np.float64), labels).discriminability
    assert found is not None
    assert found[0] > 1e20


def test_summary(features: np.ndarray, labels: np.ndarray) -> None:
    channels = of_channels(features, labels)
    summary = summarised(channels)
    assert channels.discriminability is not None
    assert summary.mean == pytest.approx(features.mean())
    assert summary.std**2 + summary.std_between_channels**2 == pytest.approx(features.var())
    assert summary.std_between_channels == pytest.approx(features.mean(axis=0).std())
    assert summary.discriminability == np.median(channels.discriminability)
    assert summary.skewness == np.median(np.abs(channels.skewness))
