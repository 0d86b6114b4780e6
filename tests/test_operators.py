"""rc_deploy.nn: the operators against the float64 reference, their derivatives, their limits, their compilers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from rc_deploy import nn as rc
from rc_deploy.schema import APPROXIMATIONS
from rc_deploy.tolerances import GCLU_ARITHMETIC, RC_ARITHMETIC, operator_bound

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
INF, NAN = float("inf"), float("nan")


def close(found: Tensor, exact: reference.Array, argument: Tensor, arithmetic: int) -> bool:
    """Whether every element is within its derived bound."""
    dtype = str(found.dtype).removeprefix("torch.")
    error = np.abs(found.double().numpy() - exact)
    bound = operator_bound(dtype, arithmetic, argument.double().abs().numpy(), np.abs(exact))
    return bool(np.all(error <= bound))


def calibration_input(dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    mu = torch.randn(shape[:2], generator=generator, dtype=torch.float64)
    # Standard deviations from 4e-5, where epsilon matters, to 50.
    log_var = torch.rand(shape[:2], generator=generator, dtype=torch.float64) * 28 - 20
    return a.to(dtype), mu.to(dtype), log_var.to(dtype)


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gclu_equals_float64_reference(dtype: str, approximate: str) -> None:
    x = torch.linspace(-14, 14, 100_003, dtype=torch.float64).to(DTYPES[dtype])
    assert close(rc.gclu(x, approximate), reference.gclu(x.double(), approximate), x, GCLU_ARITHMETIC)


def test_gclu_keeps_relative_accuracy_in_the_negative_tail() -> None:
    x = torch.linspace(-12, -1, 10_001)
    exact = reference.gclu(x.double())
    relative = np.abs(rc.gclu(x).double().numpy() / exact - 1)
    # x / sqrt 2 is rounded twice (constant, product), each enlarged by x^2; erfc, products and sum add twelve more.
    assert np.all(relative <= (2 * x.double().numpy() ** 2 + 12) * 2.0**-24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7), (0, 3, 4, 4), (1, 1, 257, 259)])
def test_calibration_equals_float64_reference(dtype: str, shape: tuple[int, ...]) -> None:
    a, mu, log_var = calibration_input(DTYPES[dtype], shape)
    exact = reference.response_calibration(a.double(), mu.double(), log_var.double())
    assert close(rc.response_calibration(a, mu, log_var), exact, a, RC_ARITHMETIC)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, mu, lv: rc.response_calibration(a, mu, lv, 2e-5),  # another epsilon
        lambda a, mu, lv: rc.response_calibration(a, -mu, lv),  # another sign
        lambda a, mu, lv: rc.response_calibration(a, mu, 2 * lv),  # variance taken for the standard deviation
        lambda a, mu, lv: rc.response_calibration(a, mu, lv) - a,  # without the residual
    ],
)
def test_wrong_calibration_is_caught(wrong: object) -> None:
    assert callable(wrong)
    a, mu, log_var = calibration_input(torch.float32, (2, 3, 5, 7))
    exact = reference.response_calibration(a.double(), mu.double(), log_var.double())
    assert not close(wrong(a, mu, log_var), exact, a, RC_ARITHMETIC)


@pytest.mark.parametrize("approximate", ["sigmoid", "tanh"])
def test_approximations_are_told_apart(approximate: str) -> None:
    x = torch.linspace(-14, 14, 1001)
    assert not close(rc.gclu(x, approximate), reference.gclu(x.double()), x, GCLU_ARITHMETIC)


def test_errors_of_the_approximations_are_the_documented_ones() -> None:
    x = np.linspace(-8, 8, 1_600_001)
    exact = reference.gclu(x)
    assert np.abs(reference.gclu(x, "sigmoid") - exact).max() == pytest.approx(0.0203, abs=5e-5)
    assert np.abs(reference.gclu(x, "tanh") - exact).max() == pytest.approx(4.7e-4, abs=5e-6)


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gclu_limits(dtype: str, approximate: str) -> None:
    y = rc.gclu(torch.tensor([INF, -INF, NAN, 0.0], dtype=DTYPES[dtype]), approximate)
    assert y[0] == INF
    assert y[1] == 0
    assert y[2].isnan()
    assert y[3] == 0


@pytest.mark.parametrize(
    ("a", "mu", "log_var", "expected"),
    [
        (INF, 0, 0, INF),
        (-INF, 0, 0, -INF),
        (2, 2, -INF, 3),  # z = 0: weight 1/2
        (2, 1, -INF, 2),  # std -> 0: weight 0
        (2, 1, INF, 3),  # std -> inf: weight 1/2
        (2, 1e30, 0, 2),  # very large |z|: weight 0
        (2, INF, 0, 2),
        (NAN, 0, 0, NAN),
        (2, NAN, 0, NAN),
        (2, 0, NAN, NAN),
        (INF, NAN, 0, NAN),
    ],
)
def test_calibration_limits(a: float, mu: float, log_var: float, expected: float) -> None:
    a, mu, log_var = float(a), float(mu), float(log_var)
    y = rc.response_calibration(torch.full((1, 1, 1), a), torch.full((1, 1), mu), torch.full((1, 1), log_var))
    np.testing.assert_array_equal(y.numpy(), np.full((1, 1, 1), expected))


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
def test_gclu_gradient(approximate: str) -> None:
    x = torch.randn(3, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rc.gclu(x, approximate), x)
    torch.library.opcheck(torch.ops.rc.gclu, (x, approximate))


def test_calibration_gradient() -> None:
    a, mu, log_var = calibration_input(torch.float64, (2, 3, 4, 5))
    log_var = log_var.clamp(-2, 2)  # gradcheck's finite differences need a smooth neighbourhood
    inputs = tuple(tensor.requires_grad_() for tensor in (a, mu, log_var))
    assert torch.autograd.gradcheck(rc.response_calibration, inputs)
    torch.library.opcheck(torch.ops.rc.response_calibration, (*inputs, 1e-5))


def test_gradients_at_the_limits_are_finite_or_nan_for_nan() -> None:
    x = torch.tensor([INF, -INF, 1e30, -1e30, 0.0, NAN], requires_grad=True)
    rc.gclu(x).sum().backward()  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(x.grad, [1, 0, 1, 0, 0.5, NAN])
    a = torch.tensor([INF, -INF, 5.0]).view(1, 1, 3).requires_grad_()
    mu, log_var = torch.zeros(1, 1, requires_grad=True), torch.full((1, 1), -INF, requires_grad=True)
    rc.response_calibration(a, mu, log_var).sum().backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert mu.grad is not None
    assert log_var.grad is not None
    assert a.grad.isfinite().all()
    assert mu.grad.isfinite().all()
    assert log_var.grad.isfinite().all()


def test_module_equals_its_definition() -> None:
    """The RC layer, computed in float64 from its weights by hand."""
    torch.manual_seed(0)
    layer = rc.ResponseCalibration(8, 4).double()
    a = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    parts = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}
    hidden = a.numpy().mean((2, 3)) @ parts["squeeze.weight"].T + parts["squeeze.bias"]
    mu = hidden @ parts["mean.weight"].T + parts["mean.bias"]
    log_var = hidden @ parts["log_var.weight"].T + parts["log_var.bias"]
    np.testing.assert_allclose(layer(a).detach(), reference.response_calibration(a, mu, log_var), rtol=1e-13)


@pytest.mark.parametrize(
    ("channels", "reduction", "parameters"),
    [(16, 4, 228), (32, 4, 840), (64, 4, 3216), (256, 16, 12816), (2048, 16, 790656)],
)
def test_module_has_the_papers_parameter_count(channels: int, reduction: int, parameters: int) -> None:
    layer = rc.ResponseCalibration(channels, reduction)
    assert sum(parameter.numel() for parameter in layer.parameters()) == parameters


def test_compile_and_export_keep_the_operators() -> None:
    """torch.compile gives the same values; torch.export keeps one node per operator."""

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.rc = rc.GCLU("tanh"), rc.ResponseCalibration(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.rc(x))  # type: ignore[no-any-return]

    network, x = Both(), torch.randn(2, 8, 4, 4)
    exported = torch.export.export(network, (x,))
    targets = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert targets.count("rc.gclu.default") == targets.count("rc.response_calibration.default") == 1
    compiled = torch.compile(network, backend="aot_eager")
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    network(inputs[0]).sum().backward()
    compiled(inputs[1]).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0, atol=0)


def test_layout_is_kept() -> None:
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert rc.gclu(x).is_contiguous(memory_format=torch.channels_last)
    calibrated = rc.response_calibration(x, torch.zeros(2, 8), torch.zeros(2, 8))
    assert calibrated.is_contiguous(memory_format=torch.channels_last)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="approximate must be one of none, sigmoid, tanh"):
        rc.GCLU("erf")
    with pytest.raises(ValueError, match="approximate must be one of"):
        rc.gclu(torch.zeros(1), "erf")
    with pytest.raises(ValueError, match="multiple of reduction"):
        rc.ResponseCalibration(10, 4)
    for epsilon in (0.0, -1e-5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"epsilon must be positive and finite, not {epsilon}"):
            rc.response_calibration(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1), epsilon)
    with pytest.raises(ValueError, match="must be"):
        rc.response_calibration(torch.zeros(1, 2, 1), torch.zeros(1, 1), torch.zeros(1, 1))
