"""The whole RC layer, pooling and heads included, against float64 NumPy: values, and gradients derived by hand.

Derivation of the tolerance. A rounded sum of K products is the exact sum of products that are each a little off: by K u
at most, u the unit roundoff, and as roundings are as often up as down, by u (2 sqrt(K) + 4), as tests/reference.py has
it. So what the layer gives is the exact result for inputs (responses, weights, incoming gradient) that are off by that
much, K being the lengths of all the sums on the way. How far such inputs move each result is measured on the reference:
all of them are disturbed at random by a larger relative error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, ndtr
from torch import nn

from rc_deploy.nn import ResponseCalibration, operators
from rc_deploy.tolerances import UNIT_ROUNDOFF

Array = NDArray[np.float64]
Arrays = dict[str, Array]

EPSILON = 1e-5
SAMPLES, CHANNELS, HEIGHT, WIDTH = 3, 16, 4, 5
SUMS = 2 * HEIGHT * WIDTH + 4 * CHANNELS + SAMPLES * HEIGHT * WIDTH  # forward and backward, each sum once
DISTURBANCE = 2.0**-16
HEADS: dict[str, tuple[int | None, nn.Module | None]] = {
    "fc3": (4, None),
    "fc2": (None, None),
    "fc3_relu": (4, nn.ReLU()),
    "fc3_sigmoid": (4, nn.Sigmoid()),
}


def reference(head: str, inputs: Arrays) -> Arrays:
    """Return the output "y", and the gradients of sum(grad * y) in everything else that `inputs` holds.

    Args:
        head: a name of `HEADS`.
        inputs: "a" and "grad" (N, C, H, W), and weights by the names of the module's parameters.
    """
    a, grad, mean_weight, log_var_weight = (inputs[name] for name in ("a", "grad", "mean.weight", "log_var.weight"))
    g = a.mean((2, 3))
    before = g if head == "fc2" else g @ inputs["squeeze.weight"].T + inputs["squeeze.bias"]
    h = {"fc3_relu": np.maximum(before, 0), "fc3_sigmoid": expit(before)}.get(head, before)
    slope = {"fc3_relu": (before > 0) * 1.0, "fc3_sigmoid": h * (1 - h)}.get(head, np.ones_like(h))
    mu = (h @ mean_weight.T + inputs["mean.bias"])[:, :, None, None]
    std = np.exp((h @ log_var_weight.T + inputs["log_var.bias"]) / 2)[:, :, None, None]
    s = std + EPSILON
    z = (a - mu) / s
    assert np.abs(z).min() > 10 * DISTURBANCE  # at z = 0 gradients jump
    w, phi, sign = ndtr(-np.abs(z)), np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), np.where(z < 0, -1, 1)
    # d w / d z = -phi(z) sign; z = (a - mu) / s, and d s / d log_var = std / 2.
    grad_mu = (grad * a * phi * sign / s).sum((2, 3))
    grad_log_var = (grad * a * phi * np.abs(z) * std / (2 * s)).sum((2, 3))
    grad_before = (grad_mu @ mean_weight + grad_log_var @ log_var_weight) * slope
    through_pool = grad_before if head == "fc2" else grad_before @ inputs["squeeze.weight"]
    found = {
        "y": a + a * w,
        "a": grad * (1 + w - a * phi * sign / s) + through_pool[:, :, None, None] / (HEIGHT * WIDTH),
        "mean.weight": grad_mu.T @ h,
        "mean.bias": grad_mu.sum(0),
        "log_var.weight": grad_log_var.T @ h,
        "log_var.bias": grad_log_var.sum(0),
    }
    if head != "fc2":
        found |= {"squeeze.weight": grad_before.T @ g, "squeeze.bias": grad_before.sum(0)}
    return found


def tolerances(head: str, inputs: Arrays, roundoff: float) -> dict[str, float]:
    """Return the largest error that rounding explains, by result."""
    exact = reference(head, inputs)
    found = dict.fromkeys(exact, 0.0)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        moved = {name: x * (1 + DISTURBANCE * rng.choice([-1, 1], x.shape)) for name, x in inputs.items()}
        for name, value in reference(head, moved).items():
            found[name] = max(found[name], float(np.abs(value - exact[name]).max()))
    off = roundoff * (2 * SUMS**0.5 + 4)
    return {name: off / DISTURBANCE * change for name, change in found.items()}


def case(head: str, dtype: torch.dtype) -> tuple[Any, Arrays]:
    """Return a layer with random weights of that type, and those with a and grad as float64 arrays."""
    generator = torch.Generator().manual_seed(2)
    reduction, activation = HEADS[head]
    layer = ResponseCalibration(CHANNELS, reduction, EPSILON, activation).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    shape = (2, SAMPLES, CHANNELS, HEIGHT, WIDTH)
    a, grad = torch.randn(shape, generator=generator, dtype=dtype).double().numpy()
    return layer, {"a": a, "grad": grad} | {
        name: parameter.detach().double().numpy() for name, parameter in layer.named_parameters()
    }


def results(layer: Any, inputs: Arrays) -> Arrays:
    """Return what the layer gives, by the names that `reference` uses."""
    dtype = next(layer.parameters()).dtype
    a = torch.from_numpy(inputs["a"]).to(dtype).requires_grad_()
    y = layer(a)
    y.backward(torch.from_numpy(inputs["grad"]).to(dtype))
    gradients = {"a": a.grad} | {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach().double().numpy()} | {name: grad.double().numpy() for name, grad in gradients.items()}


def errors(head: str, dtype: torch.dtype) -> dict[str, float]:
    """Return the largest error of each result over its tolerance."""
    layer, inputs = case(head, dtype)
    exact, found = reference(head, inputs), results(layer, inputs)
    allowed = tolerances(head, inputs, UNIT_ROUNDOFF[str(dtype).removeprefix("torch.")])
    assert found.keys() == exact.keys()
    return {name: float(np.abs(found[name] - exact[name]).max()) / allowed[name] for name in exact}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("head", HEADS)
def test_layer_equals_its_definition(head: str, dtype: torch.dtype) -> None:
    found = errors(head, dtype)
    assert max(found.values()) <= 1, found


def faulty(fault: str) -> Any:
    """Return the operator's gradient with one fault in it."""

    def backward(grad: torch.Tensor, a: torch.Tensor, mu: torch.Tensor, log_var: torch.Tensor, epsilon: float) -> Any:
        true = operators.response_calibration_backward(grad, a, mu, log_var, epsilon)
        std = torch.exp(log_var / 2)
        wrong = {
            "the direct path alone": (true[0], torch.zeros_like(mu), torch.zeros_like(log_var)),
            "the sign of mu": (true[0], -true[1], true[2]),
            "std + epsilon for std": (true[0], true[1], true[2] * (std + epsilon) / std),
            "the responses' weights as constants": (
                grad * (operators.response_calibration(a, mu, log_var) / a),
                *true[1:],
            ),
        }
        return *wrong[fault], None

    return backward


@pytest.mark.parametrize(
    ("fault", "dtype", "seen_in"),
    [
        ("the direct path alone", torch.float32, {"a", "squeeze.weight", "mean.bias", "log_var.weight"}),
        ("the sign of mu", torch.float32, {"a", "squeeze.bias", "mean.weight"}),
        ("the responses' weights as constants", torch.float32, {"a"}),
        # A relative error of 1e-5 is within float32's roundings here, and far beyond those of float64.
        ("std + epsilon for std", torch.float64, {"a", "squeeze.weight", "log_var.weight"}),
    ],
)
def test_wrong_gradients_are_caught(
    fault: str, dtype: torch.dtype, seen_in: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.save_for_backward(*inputs[:3])
            return operators.response_calibration(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return faulty(fault)(grad, *ctx.saved_tensors, EPSILON)

    monkeypatch.setattr("rc_deploy.nn.functional.response_calibration", Faulty.apply)
    found = errors("fc3", dtype)
    assert seen_in <= {name for name, error in found.items() if error > 1}, found
    assert found["y"] <= 1
