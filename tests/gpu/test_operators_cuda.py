"""The PyTorch operators and the training loop on a CUDA device; not yet run, see docs/gpu-status.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import reference
from bounds import assert_within
from rc_deploy import nn as rc
from rc_deploy.schema import APPROXIMATIONS
from rc_deploy.tolerances import GCLU_ARITHMETIC, RC_ARITHMETIC, operator_bound

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gclu_equals_float64_reference(dtype: str, approximate: str) -> None:
    x = torch.linspace(-14, 14, 100_003, dtype=torch.float64).to(DTYPES[dtype])
    exact = reference.gclu(x.double(), approximate)
    found = rc.gclu(x.cuda(), approximate).cpu().double().numpy()
    bound = operator_bound(dtype, GCLU_ARITHMETIC, x.double().abs().numpy(), np.abs(exact))
    assert_within(found, exact, bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_calibration_equals_float64_reference(dtype: str) -> None:
    torch.manual_seed(0)
    a = (3 * torch.randn(4, 16, 17, 19)).to(DTYPES[dtype])
    mu, log_var = torch.randn(4, 16).to(DTYPES[dtype]), (torch.rand(4, 16) * 28 - 20).to(DTYPES[dtype])
    exact = reference.response_calibration(a.double(), mu.double(), log_var.double())
    found = rc.response_calibration(a.cuda(), mu.cuda(), log_var.cuda()).cpu().double().numpy()
    bound = operator_bound(dtype, RC_ARITHMETIC, a.double().abs().numpy(), np.abs(exact))
    assert_within(found, exact, bound)


@pytest.mark.parametrize("augment", ["affine", ""], ids=["affine", "plain"])
def test_digits_train_on_cuda(tmp_path: Path, augment: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")
    if augment:
        pytest.importorskip("kornia", reason="Kornia, which augments on the device, is not installed")
    from rc_training import recipe
    from rc_training.options import RunOptions
    from rc_training.train import train

    digits = recipe.load("digits", ("epochs=5", "warmup_epochs=1", f"augment={augment}"))
    checkpoint = train(digits, RunOptions(tmp_path / "run", device="cuda"))
    assert checkpoint.metrics["device"] == torch.cuda.get_device_name()
    assert checkpoint.metrics["test_accuracy_last"] > 90
