"""Training with the operators of rc_deploy.nn, and with PyTorch's own differentiation of the same formulas.

Derivation of the tolerance. Two programs for the same network part by roundings: at each step gradients, and with them
the weights, are off by a relative error of about 3 R, R the error that `rc_deploy.nn.roundings` predicts for a forward
pass (backward is the work of two). What such an error does to the loss of a later step is measured in float64 on
PyTorch's own differentiation alone: training starts from weights disturbed at random by a relative error D, which
changes the loss by S D. As roundings are independent, those of T steps add up as sqrt(T); and as S is that of a few
directions of many, the loss is held to the largest of T Gaussian values: one above sqrt(2 ln(2 T / P)) standard
deviations has probability P.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rc_deploy.nn import roundings as traced
from rc_deploy.tolerances import FALSE_ALARM, UNIT_ROUNDOFF
from rc_training.datasets import DATASETS, normalise
from rc_training.models import create

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STEPS, BATCH = 50, 16
DISTURBANCE = 2.0**-30
DIRECTIONS = 2


def plain_gclu(x: Tensor, approximate: str = "none") -> Tensor:
    """Eq. 6 in PyTorch's own operators."""
    assert approximate == "none"
    return torch.relu(x) + x * 0.5 * torch.erfc(x.abs() / math.sqrt(2))


def plain_calibration(a: Tensor, mu: Tensor, log_var: Tensor, epsilon: float) -> Tensor:
    """Eq. 2-5 in PyTorch's own operators."""
    z = (a - mu[..., None, None]) / (torch.exp(log_var / 2)[..., None, None] + epsilon)
    return a + a * 0.5 * torch.erfc(z.abs() / math.sqrt(2))


def plain(monkeypatch: pytest.MonkeyPatch, calibration: Callable[..., Tensor] = plain_calibration) -> None:
    monkeypatch.setattr("rc_deploy.nn.functional.gclu", plain_gclu)
    monkeypatch.setattr("rc_deploy.nn.functional.response_calibration", calibration)


def losses(dtype: torch.dtype, disturbance: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Return the loss of each step of a ResCNet-8 with GCLU on the digits, from weights so disturbed."""
    spec = DATASETS["digits"].input
    pixels, labels = DATASETS["digits"].load("train", None, torch.device("cpu"))
    images = normalise(pixels[: STEPS * BATCH], spec).to(dtype)
    torch.manual_seed(1)
    network = create("rescnet8", activation="gclu", in_channels=1).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + disturbance * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    found = []
    for step in range(STEPS):
        batch, truth = (part[step * BATCH : (step + 1) * BATCH] for part in (images, labels))
        loss = F.cross_entropy(network(batch), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


@pytest.fixture(scope="module")
def fused() -> dict[torch.dtype, NDArray[np.float64]]:
    """The losses with the operators under test."""
    return {dtype: losses(dtype) for dtype in (torch.float64, torch.float32)}


@pytest.fixture(scope="module")
def sensitivity() -> NDArray[np.float64]:
    """How far a relative error of the weights moves the loss of each step, over that error: S."""
    with pytest.MonkeyPatch.context() as patched:
        plain(patched)
        reference = losses(torch.float64)
        changes = [losses(torch.float64, DISTURBANCE, seed) - reference for seed in range(1, 1 + DIRECTIONS)]
    return np.maximum.accumulate(np.sqrt(np.mean(np.square(changes), axis=0)) / DISTURBANCE)


def tolerance(sensitivity: NDArray[np.float64], dtype: torch.dtype) -> NDArray[np.float64]:
    """Return how far roundings may move the loss, by step."""
    network = create("rescnet8", activation="gclu", in_channels=1).eval()
    float32 = math.sqrt(sum(rounding.float32_variance() for rounding in traced.roundings(network, (1, 8, 8))))
    roundoff = UNIT_ROUNDOFF[str(dtype).removeprefix("torch.")] / UNIT_ROUNDOFF["float32"]
    steps = np.arange(1, STEPS + 1)
    largest = math.sqrt(2 * math.log(2 * STEPS / FALSE_ALARM))
    return np.asarray(sensitivity * 3 * float32 * roundoff * np.sqrt(steps) * largest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_same_loss_curve(
    dtype: torch.dtype,
    fused: dict[torch.dtype, NDArray[np.float64]],
    sensitivity: NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain(monkeypatch)
    reference = losses(dtype)
    assert reference[-5:].mean() < 0.5 * reference[0]  # it learns
    allowed = tolerance(sensitivity, dtype)
    assert allowed[-1] < 1e-3 * reference[-1]
    np.testing.assert_array_less(np.abs(fused[dtype] - reference), allowed)


@pytest.mark.parametrize(
    ("dtype", "calibration"),
    [
        (torch.float32, lambda a, mu, log_var, epsilon: plain_calibration(a, mu.detach(), log_var, epsilon)),
        (torch.float32, lambda a, mu, log_var, epsilon: plain_calibration(a, mu, log_var.detach(), epsilon)),
        (torch.float32, lambda a, *heads: a * (plain_calibration(a, *heads) / a).detach()),
        (torch.float64, lambda a, mu, *rest: plain_calibration(a, mu - 1e-3 * (mu - mu.detach()), *rest)),
    ],
    ids=["none of mu", "none of log_var", "weights as constants", "that of mu a thousandth too small"],
)
def test_wrong_gradient_is_caught(
    dtype: torch.dtype,
    calibration: Callable[..., Tensor],
    fused: dict[torch.dtype, NDArray[np.float64]],
    sensitivity: NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain(monkeypatch, calibration)
    assert np.any(np.abs(fused[dtype] - losses(dtype)) > tolerance(sensitivity, dtype))
