"""The operators where autocast has made some of their inputs bfloat16: as they are, under opcheck, in a network."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from rc_deploy.nn import ResponseCalibration, gclu, operators, response_calibration

HALF, FULL = torch.bfloat16, torch.float32
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
# opcheck's own call into PyTorch's exporter.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def inputs(a_type: torch.dtype, layout: torch.memory_format, *types: torch.dtype) -> list[Tensor]:
    draws = torch.Generator().manual_seed(0)
    a = torch.randn(3, 4, 5, 6, generator=draws).to(dtype=a_type, memory_format=layout)
    statistics = [torch.randn(3, 4, generator=draws).to(dtype) for dtype in types]
    return [tensor.requires_grad_() for tensor in (a, *statistics)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("types", list(product((HALF, FULL), repeat=3)), ids=str)
def test_calibration_of_mixed_types_rounds_once(types: tuple[torch.dtype, ...], layout: str) -> None:
    """Whatever is bfloat16, it is float32 arithmetic, whose result and gradients are rounded to the inputs' types."""
    mixed = inputs(types[0], LAYOUTS[layout], *types[1:])
    wide = [tensor.detach().float().requires_grad_() for tensor in mixed]
    found, exact = (response_calibration(a, mu, log_var) for a, mu, log_var in (mixed, wide))
    assert found.dtype == types[0]
    assert found.stride() == mixed[0].stride()
    torch.testing.assert_close(found, exact.to(types[0]), rtol=0, atol=0)
    weights = torch.linspace(-1, 1, found.numel()).view(found.shape).to(types[0])
    found.backward(weights)  # type: ignore[no-untyped-call]
    exact.backward(weights.float())  # type: ignore[no-untyped-call]
    for one, other in zip(mixed, wide, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad.to(one.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("types", [(HALF, HALF, HALF), (HALF, FULL, HALF), (FULL, HALF, FULL)], ids=str)
def test_calibration_of_mixed_types_passes_opcheck(types: tuple[torch.dtype, ...], layout: str) -> None:
    arguments: Any = (*inputs(types[0], LAYOUTS[layout], *types[1:]), 1e-5)
    torch.library.opcheck(operators.response_calibration, arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gclu_of_half_types_passes_opcheck(layout: str) -> None:
    torch.library.opcheck(operators.gclu, (inputs(HALF, LAYOUTS[layout])[0], "none"))


def test_layers_under_autocast() -> None:
    """Linears give bfloat16 statistics of float32 responses; what comes out has the responses' type."""
    torch.manual_seed(0)
    layer, x = ResponseCalibration(4, 2), torch.randn(3, 4, 5, 6)
    with torch.autocast("cpu", HALF, cache_enabled=False):
        found = layer(gclu(x))
        assert layer.mean(layer.squeeze(x.mean((2, 3)))).dtype == HALF
    assert found.dtype == FULL
    # mu and log_var have a relative error of two bfloat16 roundings of each Linear's operands and result, and reach
    # the result through Phi, whose slope times |a| is below 1 here.
    torch.testing.assert_close(found, layer(gclu(x)), rtol=0, atol=6 * 2.0**-9 * float(found.detach().abs().max()))
    assert not torch.equal(found, layer(gclu(x)))
