"""The bounds that kernels on a device are held to: right results pass, and each planted fault fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import reference
from bounds import Array, assert_within, gclu_bound
from rc_deploy.schema import APPROXIMATIONS

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def rounded(values: Array, dtype: str) -> Array:
    return np.asarray(torch.from_numpy(values).float().to(DTYPES[dtype]).double().numpy())


def numbers(dtype: str) -> Array:
    special = [np.inf, -np.inf, np.nan, 0.0]
    return rounded(np.concatenate((np.linspace(-14, 14, 100_003), special)), dtype)


def within(found: Array, exact: Array, bound: Array) -> bool:
    try:
        assert_within(found, exact, bound)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounded_reference_passes(dtype: str, approximate: str) -> None:
    x = numbers(dtype)
    exact = reference.gclu(x, approximate)
    assert_within(rounded(exact, dtype), exact, gclu_bound(dtype, x, exact))


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_of_zeros_fails(dtype: str, approximate: str) -> None:
    x = numbers(dtype)
    exact = reference.gclu(x, approximate)
    cut = np.where(x < -5, 0.0, rounded(exact, dtype))
    assert not within(cut, exact, gclu_bound(dtype, x, exact))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tail_that_is_off_by_little_fails(dtype: str) -> None:
    x = numbers(dtype)
    exact = reference.gclu(x)
    found = rounded(np.where((x < -4) & (x > -5), 1.02, 1.0) * exact, dtype)
    assert not within(found, exact, gclu_bound(dtype, x, exact))


@pytest.mark.parametrize("found", [7.0, -np.inf, np.nan])
def test_infinite_result_is_met_by_nothing_else(found: float) -> None:
    infinite = np.array([np.inf])
    assert within(infinite, infinite, infinite)
    assert not within(np.array([found]), infinite, infinite)


@pytest.mark.parametrize("found", [7.0, np.inf])
def test_nan_is_met_by_nan_alone(found: float) -> None:
    nan = np.array([np.nan])
    assert within(nan, nan, nan)
    assert not within(np.array([found]), nan, np.array([np.inf]))
    assert not within(nan, np.array([found]), np.array([np.inf]))
