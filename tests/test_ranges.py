"""Histograms and the three methods that choose a range from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from rc_deploy.ranges import BINS, PERCENTILE, Histogram
from rc_deploy.specs import CalibrationMethod

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

METHODS = list(CalibrationMethod)


def histogram(*parts: ArrayLike) -> Histogram:
    found = Histogram()
    for part in parts:
        found.add(np.asarray(part, np.float32))
    return found


@pytest.fixture
def values(rng: np.random.Generator) -> np.ndarray:
    """A ReLU's output with a heavy tail, as a network's tensors have."""
    return np.maximum(rng.standard_t(5, 200_000), 0).astype(np.float32)


def test_batches_do_not_matter(values: np.ndarray) -> None:
    whole = histogram(values)
    parts = histogram(*np.array_split(np.sort(values), 7))  # the largest come last: the limit doubles on the way
    assert np.array_equal(whole.counts, parts.counts)
    assert (whole.limit, whole.largest) == (parts.limit, parts.largest)
    assert whole.counts.sum() == values.size


def test_minmax_is_the_largest_magnitude() -> None:
    assert histogram([-3.25, 1.0]).range(CalibrationMethod.MINMAX) == 3.25


def test_minmax_needs_no_counts(values: np.ndarray) -> None:
    found = Histogram(counting=False)
    found.add(-values)
    assert found.range(CalibrationMethod.MINMAX) == values.max()
    assert not found.counts.any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("counting", [False, True])
def test_what_is_no_number_has_no_range(wrong: float, counting: bool, values: np.ndarray) -> None:
    found = Histogram(counting)
    found.add(values)
    with pytest.raises(ValueError, match="no numbers"):
        found.add(np.append(values, np.float32(wrong)))


def test_percentile_leaves_out_the_largest(values: np.ndarray) -> None:
    found = histogram(values)
    expected = np.percentile(np.abs(values), PERCENTILE)
    assert found.range(CalibrationMethod.PERCENTILE) == pytest.approx(expected, abs=2 * found.limit / BINS)
    assert found.range(CalibrationMethod.PERCENTILE) < found.largest


def test_entropy_loses_least_information(values: np.ndarray) -> None:
    """Between the bulk and the farthest value; and where every magnitude is as frequent, nothing is cut off."""
    found = histogram(values)
    assert np.percentile(values, 99) < found.range(CalibrationMethod.ENTROPY) < 0.9 * found.largest
    even = histogram(np.linspace(-1, 1, 100_001))
    assert even.range(CalibrationMethod.ENTROPY) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_follow_the_scale(method: CalibrationMethod, values: np.ndarray) -> None:
    assert histogram(8 * values).range(method) == 8 * histogram(values).range(method)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros_has_no_range(method: CalibrationMethod) -> None:
    assert histogram([0.0, 0.0]).range(method) == 0
    assert Histogram().range(method) == 0


def test_noise_is_what_rounding_and_saturation_change(values: np.ndarray) -> None:
    """Against the values themselves, for a range that cuts off and for one that does not."""
    found = histogram(values)
    for largest in (found.largest, 0.3 * found.largest):
        scale = largest / 127

        def rounded(x: np.ndarray, scale: float = scale) -> np.ndarray:
            return np.asarray(np.clip(np.rint(x / scale), -127, 127) * scale)

        exact = np.square(rounded(values.astype(np.float64)) - values).sum() / np.square(values, dtype=np.float64).sum()
        assert found.noise(rounded) == pytest.approx(exact, rel=0.05)
    uniform = histogram(np.linspace(0, 1, 100_000))
    noise = uniform.noise(lambda x: np.asarray(np.rint(x * 127) / 127))
    assert noise == pytest.approx((1 / 127) ** 2 / 12 / (1 / 3), rel=0.02)  # step^2 / 12 over the mean square
