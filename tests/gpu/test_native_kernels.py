"""Every kernel of plugins/cuda on a device, against float64: fresh random inputs, poisoned outputs, guards around them.

Not yet run on a GPU: see docs/gpu-status.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reference
from bounds import assert_within, gclu_bound
from native_build import built_with_cuda
from native_cuda import Kernels
from rc_deploy.schema import APPROXIMATIONS
from rc_deploy.tolerances import RC_ARITHMETIC, UNIT_ROUNDOFF, operator_bound

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
GUARD = 64
# (N, C, positions): one element, odd sizes, planes smaller than a vector, every stage of the networks, a batch that
# fills the device, planes longer than a block's share.
SHAPES = [
    (1, 1, 1), (3, 5, 3), (7, 33, 1), (2, 3, 49), (2, 2048, 49), (1, 16, 1024), (5, 32, 256), (300, 64, 64),
    (1, 3, 257 * 259), (65, 17, 131),
]  # fmt: skip
# ... and of the whole tail, with its hidden layer: one block, clusters, a sample spread over eight blocks to fit,
# and three kernels.
TAILS = [
    (1, 1, 1, 1), (3, 5, 3, 2), (2, 19, 259, 5), (1, 16, 1024, 4), (1, 32, 256, 8), (1, 64, 64, 16), (300, 16, 1024, 4),
    (3, 256, 3136, 64), (2, 512, 3136, 128), (2, 2048, 49, 128), (1, 3, 300_007, 2),
]  # fmt: skip
SEED = int.from_bytes(os.urandom(4), "little")  # fresh inputs every time; a failure prints them

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    torch.manual_seed(SEED)
    return Kernels(built_with_cuda("librc_cuda.so"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    print(f"seed {SEED}")  # which pytest shows where a test fails


class Guarded:
    """An output `tensor`, filled with NaN, `shift` elements behind a multiple of 16 bytes, between guards of NaN."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, shift: int = 0) -> None:
        self._count = int(np.prod(shape))
        self._start = GUARD + shift
        self._memory = torch.full((self._count + 2 * GUARD + shift,), float("nan"), dtype=dtype, device="cuda")
        self.tensor = self._memory[self._start : self._start + self._count].view(shape)

    def numpy(self) -> Array:
        """Return the output, having checked that nothing was written around it."""
        torch.cuda.synchronize()
        around = torch.cat((self._memory[: self._start], self._memory[self._start + self._count :]))
        assert bool(around.isnan().all()), f"written outside the output; seed {SEED}"
        return double(self.tensor)


def double(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.double().cpu().numpy())


def random(shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0, shift: int = 0) -> torch.Tensor:
    """Normal numbers, `shift` elements behind a multiple of 16 bytes."""
    count = int(np.prod(shape))
    memory = torch.empty(count + shift, dtype=dtype, device="cuda")
    memory.normal_(std=scale)
    return memory[shift:].view(shape)


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 7, 9, 257 * 259, 1 << 20])
@pytest.mark.parametrize("shifts", [(0, 0), (1, 1), (1, 0), (0, 3)])
def test_gclu(kernels: Kernels, dtype: str, approximate: str, count: int, shifts: tuple[int, int]) -> None:
    x = random((count,), DTYPES[dtype], 3.0, shifts[0])
    y = Guarded((count,), DTYPES[dtype], shifts[1])
    kernels.gclu(x, y.tensor, approximate)
    exact = reference.gclu(double(x), approximate)
    assert_within(y.numpy(), exact, gclu_bound(dtype, double(x), exact))


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gclu_of_every_number(kernels: Kernels, dtype: str, approximate: str) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32, device="cuda").to(torch.int16)
    x = bits.view(DTYPES[dtype])
    y = Guarded((2**16,), DTYPES[dtype])
    kernels.gclu(x, y.tensor, approximate)
    exact = reference.gclu(double(x), approximate)
    assert_within(y.numpy(), exact, gclu_bound(dtype, double(x), exact))


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
def test_gclu_of_special_values(kernels: Kernels, approximate: str) -> None:
    infinity, nan, largest = float("inf"), float("nan"), 3e38
    x = torch.tensor([infinity, -infinity, nan, 0.0, largest, -largest], device="cuda")
    y = Guarded((6,), torch.float32)
    kernels.gclu(x, y.tensor, approximate)
    np.testing.assert_array_equal(y.numpy(), double(torch.tensor([infinity, 0.0, nan, 0.0, largest, 0.0])))


def test_gclu_beyond_32_bit_indices(kernels: Kernels) -> None:
    count = 2**31 + 13
    if torch.cuda.mem_get_info()[0] < 10 * count:
        pytest.skip("needs 20 GB of free device memory")
    x = torch.zeros(count, dtype=torch.float16, device="cuda")
    y = torch.full_like(x, float("nan"))
    ends = torch.linspace(-4, 4, 64, dtype=torch.float16, device="cuda")
    x[:64], x[-64:] = ends, ends
    kernels.gclu(x, y)
    assert torch.equal(y[:64], y[-64:])
    exact = reference.gclu(double(ends))
    assert_within(double(y[-64:]), exact, gclu_bound("float16", double(ends), exact))
    assert float(y[64:-64].float().abs().amax()) == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shifts", [(0, 0, 0), (1, 1, 1), (0, 1, 0)])
def test_calibrations(kernels: Kernels, dtype: str, shape: tuple[int, int, int], shifts: tuple[int, int, int]) -> None:
    a, shortcut = random(shape, DTYPES[dtype], 3.0, shifts[0]), random(shape, DTYPES[dtype], 3.0, shifts[1])
    mu, log_var = random(shape[:2], DTYPES[dtype]), random(shape[:2], DTYPES[dtype], 3.0)
    plain, residual = Guarded(shape, DTYPES[dtype], shifts[2]), Guarded(shape, DTYPES[dtype], shifts[2])
    kernels.response_calibration(a, mu, log_var, plain.tensor)
    kernels.calibrated_residual(a, mu, log_var, shortcut, residual.tensor)
    exact = reference.response_calibration(double(a), double(mu), double(log_var))
    bound = operator_bound(dtype, RC_ARITHMETIC, np.abs(double(a)), np.abs(exact))
    assert_within(plain.numpy(), exact, bound)
    total = np.maximum(exact + double(shortcut), 0.0)
    argument = np.abs(double(a)) + np.abs(double(shortcut))
    assert_within(residual.numpy(), total, operator_bound(dtype, RC_ARITHMETIC + 2, argument, total))


@pytest.mark.parametrize("dtype", DTYPES)
def test_calibration_of_special_values(kernels: Kernels, dtype: str) -> None:
    infinity, nan = float("inf"), float("nan")
    a = torch.tensor([infinity, -infinity, nan, 0.0, 2.0, 2.0, 2.0, 2.0]).repeat(1, 4, 1).to("cuda", DTYPES[dtype])
    mu = torch.tensor([[2.0, 1.0, nan, 0.0]]).to("cuda", DTYPES[dtype])
    log_var = torch.tensor([[-infinity, 0.0, 0.0, nan]]).to("cuda", DTYPES[dtype])  # std = 0 first
    y = Guarded((1, 4, 8), DTYPES[dtype])
    kernels.response_calibration(a, mu, log_var, y.tensor)
    found = y.numpy()[0]
    np.testing.assert_array_equal(found[0, :4], [infinity, -infinity, nan, 0.0])
    np.testing.assert_allclose(found[0, 4:], 3.0, rtol=2 * UNIT_ROUNDOFF[dtype])  # a = mu: weight 1 / 2
    np.testing.assert_array_equal(found[1, :4], [infinity, -infinity, nan, 0.0])
    assert np.isnan(found[2:]).all()
    residual = Guarded((1, 4, 8), DTYPES[dtype])
    kernels.calibrated_residual(a, mu, log_var, torch.zeros_like(a), residual.tensor)
    np.testing.assert_array_equal(residual.numpy()[0], np.maximum(found, 0.0))


def test_calibrations_beyond_32_bit_indices(kernels: Kernels) -> None:
    shape = (1, 2, 2**30 + 7)
    if torch.cuda.mem_get_info()[0] < 10 * 2**31:
        pytest.skip("needs 20 GB of free device memory")
    a = torch.zeros(shape, dtype=torch.float16, device="cuda")
    ends = torch.linspace(-4, 4, 64, dtype=torch.float16, device="cuda")
    a[0, 0, :64], a[0, 1, -64:] = ends, ends
    still, *weights = (torch.zeros(size, dtype=a.dtype, device="cuda") for size in ((1, 2), (1, 2), (1,), (4, 1), (4,)))
    x, zero = double(ends), np.zeros((1, 1))
    exact = reference.response_calibration(x[None, None], zero, zero)[0, 0]
    total = np.maximum(exact + x, 0.0)

    def check(y: torch.Tensor, due: Array, arithmetic: int, argument: Array) -> None:
        bound = operator_bound("float16", arithmetic, argument, np.abs(due))
        for found in (y[0, 0, :64], y[0, 1, -64:]):
            assert_within(double(found), due, bound)
        assert int(torch.count_nonzero(y[0, 0, 64:]) + torch.count_nonzero(y[0, 1, :-64])) == 0  # NaN is none

    y = torch.full_like(a, float("nan"))
    kernels.response_calibration(a, still, still, y)
    check(y, exact, RC_ARITHMETIC, np.abs(x))
    kernels.calibrated_residual(a, still, still, a, y.fill_(float("nan")))
    check(y, total, RC_ARITHMETIC + 2, 2 * np.abs(x))
    kernels.calibrated_tail(a, a, weights, y.fill_(float("nan")), kernels.workspace(a))
    check(y, total, RC_ARITHMETIC + 2, 2 * np.abs(x))


def tail_operands(shape: tuple[int, int, int, int], dtype: torch.dtype, shift: int = 0) -> list[torch.Tensor]:
    batch, channels, positions, hidden = shape
    return [
        random((batch, channels, positions), dtype, 2.0, shift),
        random((batch, channels, positions), dtype, 2.0, shift),
        random((hidden, channels), dtype, channels**-0.5),
        random((hidden,), dtype, 0.5),
        random((2 * channels, hidden), dtype, hidden**-0.5),
        random((2 * channels,), dtype, 0.5),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", TAILS)
@pytest.mark.parametrize("shift", [0, 1])
def test_calibrated_tail(kernels: Kernels, dtype: str, shape: tuple[int, int, int, int], shift: int) -> None:
    a, shortcut, *weights = tail_operands(shape, DTYPES[dtype], shift)
    y, workspace = Guarded(shape[:3], DTYPES[dtype], shift), kernels.workspace(a).fill_(float("nan"))
    kernels.calibrated_tail(a, shortcut, weights, y.tensor, workspace)
    exact, off = reference.calibrated_tail(double(a), double(shortcut), [double(weight) for weight in weights])
    argument = np.abs(double(a)) + np.abs(double(shortcut))
    assert_within(y.numpy(), exact, operator_bound(dtype, RC_ARITHMETIC + 2, argument, exact) + off)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 49, 2), (3, 2, 300_007, 2)])  # one kernel, and three
def test_nan_in_a_tail_stays_in_its_sample(kernels: Kernels, dtype: str, shape: tuple[int, int, int, int]) -> None:
    a, shortcut, *weights = tail_operands(shape, DTYPES[dtype])
    y, expected, workspace = torch.empty_like(a), torch.empty_like(a), kernels.workspace(a)
    kernels.calibrated_tail(a, shortcut, weights, expected, workspace)
    a[1, 1, 7] = float("nan")
    kernels.calibrated_tail(a, shortcut, weights, y, workspace)
    assert bool(y[1].isnan().all())
    assert torch.equal(y[::2], expected[::2])


def test_streams_and_graphs_give_the_same(kernels: Kernels) -> None:
    cases = [tail_operands((4, 16, 1024, 4), torch.float16) for _ in range(8)]
    expected, found = [], []
    for a, shortcut, *weights in cases:
        y, workspace = torch.full_like(a, float("nan")), kernels.workspace(a)
        kernels.calibrated_tail(a, shortcut, weights, y, workspace)
        expected.append(y)
    torch.cuda.synchronize()
    for a, shortcut, *weights in cases:
        y, workspace = torch.full_like(a, float("nan")), kernels.workspace(a)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            kernels.calibrated_tail(a, shortcut, weights, y, workspace)
        found.append(y)
    torch.cuda.synchronize()
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))

    graph = torch.cuda.CUDAGraph()
    for y in found:
        y.fill_(float("nan"))
    workspace = kernels.workspace(cases[0][0])
    with torch.cuda.graph(graph):
        for (a, shortcut, *weights), y in zip(cases, found, strict=True):
            kernels.calibrated_tail(a, shortcut, weights, y, workspace)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_tail_of_every_resnet_stage_is_one_kernel(kernels: Kernels) -> None:
    from torch.profiler import ProfilerActivity, profile

    for shape in ((1, 16, 1024, 4), (1, 32, 256, 8), (1, 64, 64, 16)):
        a, shortcut, *weights = tail_operands(shape, torch.float16)
        y, workspace = torch.empty_like(a), kernels.workspace(a)
        kernels.calibrated_tail(a, shortcut, weights, y, workspace)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            kernels.calibrated_tail(a, shortcut, weights, y, workspace)
            torch.cuda.synchronize()
        launched = [event for event in record.events() or () if "rc::" in event.name]
        assert len(launched) == 1, [event.name for event in launched]


def test_work_goes_on_after_a_refusal(kernels: Kernels) -> None:
    x = torch.zeros(4, device="cuda")
    with pytest.raises(RuntimeError, match="Y is null"):
        kernels.gclu(x, torch.empty(0, device="cuda"))
    torch.cuda.synchronize()
    assert float((x + 1).sum()) == 4.0


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="there is no compute-sanitizer here")
@pytest.mark.skipif("RC_UNDER_SANITIZER" in os.environ, reason="this is the run under compute-sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    chosen = "test_calibrated_tail and (shape0 or shape2 or shape3 or shape8) or test_calibrations and shape3"
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "99", "--kernel-name", "kernel_substring=rc"]
    command += [sys.executable, "-m", "pytest", "-q", str(Path(__file__)), "-k", chosen]
    environment = {**os.environ, "RC_UNDER_SANITIZER": "1", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert found.returncode == 0, found.stdout[-4000:]
