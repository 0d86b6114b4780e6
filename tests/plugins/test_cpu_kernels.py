"""The C API of the CPU kernels against float64, and faults planted in its sources, each of which must be caught."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import reference
from native_build import passes
from native_operands import Calibration, Tail

PLUGINS = Path(__file__).parents[2] / "plugins"
SOURCES = ("kernels.cpp", "dispatch.cpp", "operators.cpp")
# One instruction set, without optimisation: what is looked for is a wrong formula, index or argument.
FLAGS = ("-std=c++17", "-O1", "-fopenmp-simd", "-shared", "-fPIC", "-DRC_TABLE=kKernelsPlain", '-DRC_ISA="plain"')
GUARD = 64

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++: the kernels were not compiled")

Floats = NDArray[np.float32]


class Kernels:
    """The C API over NumPy arrays; every output lies between guards and is poisoned."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def gclu(self, x: Floats, approximate: int = 0) -> Floats:
        size = ctypes.c_int64(x.size)
        return self._output(x, lambda y: self._library.rc_cpu_gclu(_at(x), y, size, 0, approximate, None))

    def calibrated(self, a: Floats, mu: Floats, log_var: Floats, shortcut: Floats | None, epsilon: float) -> Floats:
        def call(y: ctypes.c_void_p) -> int:
            operands = Calibration(_at(a), _at(mu), _at(log_var), y, *_sizes(a), epsilon, 0)
            if shortcut is None:
                return int(self._library.rc_cpu_response_calibration(ctypes.byref(operands), None))
            return int(self._library.rc_cpu_calibrated_residual(ctypes.byref(operands), _at(shortcut), None))

        return self._output(a, call)

    def tail(self, a: Floats, shortcut: Floats, weights: list[Floats], epsilon: float, block: int = 1) -> Floats:
        batch, channels, _ = _sizes(a)
        hidden = len(weights[1])
        # Poisoned: memory that an earlier call used may still hold what a fault leaves out.
        workspace = np.full(batch * (3 * channels + hidden), np.nan, np.float32)

        def call(y: ctypes.c_void_p) -> int:
            tensors = (_at(tensor) for tensor in (a, shortcut, *weights))
            operands = Tail(*tensors, y, _at(workspace), *_sizes(a), hidden, epsilon, 0)
            return int(self._library.rc_cpu_calibrated_tail(ctypes.byref(operands), ctypes.c_int64(block), None))

        return self._output(a, call)

    def _output(self, like: Floats, call: Callable[[ctypes.c_void_p], int]) -> Floats:
        memory = np.full(like.size + 2 * GUARD, np.nan, np.float32)
        assert call(ctypes.c_void_p(memory.ctypes.data + 4 * GUARD)) == 0
        assert np.isnan(memory[:GUARD]).all()
        assert np.isnan(memory[-GUARD:]).all()
        return memory[GUARD:-GUARD].reshape(like.shape)


def _at(array: Floats) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _sizes(a: Floats) -> tuple[int, int, int]:
    return a.shape[0], a.shape[1], a[0, 0].size


def compiled(sources: Path, folder: Path) -> Kernels:
    library = folder / "kernels.so"
    files = [str(sources / "cpu" / name) for name in SOURCES]
    command = ["g++", *FLAGS, f"-I{sources / 'include'}", *files, "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return Kernels(library)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return compiled(PLUGINS, tmp_path_factory.mktemp("kernels"))


def values(*shape: int, scale: float = 1.0) -> Floats:
    return np.random.default_rng(sum(shape)).normal(0, scale, shape).astype(np.float32)


def assert_close(found: Floats, exact: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=2e-6, atol=4e-6)


def check_gclu(kernels: Kernels) -> None:
    for size in (1, 3, 257 * 259):
        x = values(size, scale=3)
        for number, form in enumerate(("none", "sigmoid", "tanh")):
            assert_close(kernels.gclu(x, number), reference.gclu(x, form))


def check_calibrated(kernels: Kernels) -> None:
    for shape in ((1, 1, 1), (2, 3, 7), (3, 5, 49), (1, 2, 257 * 259)):
        a, shortcut = values(*shape, scale=2), values(*shape[::-1]).reshape(shape)
        mu, log_var = values(*shape[:2]), values(shape[1], shape[0]).reshape(shape[:2])
        for epsilon in (1e-5, 0.5):
            exact = reference.response_calibration(a, mu, log_var, epsilon)
            assert_close(kernels.calibrated(a, mu, log_var, None, epsilon), exact)
            assert_close(kernels.calibrated(a, mu, log_var, shortcut, epsilon), np.maximum(exact + shortcut, 0))


TAILS = (((1, 1, 1), 1, 1), ((2, 3, 7), 2, 1), ((9, 12, 65), 3, 1), ((1, 6, 9000), 2, 1),
         ((2, 7, 5), 4, 1), ((2, 5, 3), 8, 1), ((1, 9, 4), 16, 1))  # fmt: skip
BLOCKED_TAILS = (((1, 8, 1), 1, 8), ((2, 24, 7), 2, 8), ((3, 32, 65), 3, 16), ((1, 48, 900), 2, 16))


def check_tail(kernels: Kernels) -> None:
    for (samples, channels, positions), hidden, block in (*TAILS, *BLOCKED_TAILS):
        a, shortcut = values(samples, channels, positions, scale=2), values(samples, channels, positions + 0)
        w1, b1 = values(hidden, channels), values(hidden)
        w2, b2 = values(2 * channels, hidden, scale=0.5), values(2 * channels, scale=0.5)
        squeezed = a.astype(np.float64).mean(2) @ w1.T.astype(np.float64) + b1
        mu, log_var = np.split(squeezed @ w2.T.astype(np.float64) + b2, 2, axis=1)
        exact = np.maximum(reference.response_calibration(a, mu, log_var, 0.25) + shortcut, 0)
        found = kernels.tail(in_blocks(a, block), in_blocks(shortcut, block), [w1, b1, w2, b2], 0.25, block)
        assert_close(found, in_blocks(exact, block))


def in_blocks(array: NDArray[Any], block: int) -> NDArray[Any]:
    """Return (N, C, positions) as it lies with `block` channels side by side."""
    samples, channels, positions = array.shape
    blocks = array.reshape(samples, channels // block, block, positions).swapaxes(2, 3)
    return np.ascontiguousarray(blocks).reshape(array.shape)


CHECKS = (check_gclu, check_calibrated, check_tail)


@pytest.mark.parametrize("check", CHECKS)
def test_kernels(kernels: Kernels, check: Callable[[Kernels], None]) -> None:
    check(kernels)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("include/rc/math.h", "return x < 0.0F ? 0.0F : x;", "return x > 0.0F ? 0.0F : x;"),  # sign of a branch
        ("cpu/kernels.cpp", "detail::relu(calibrated(", "(calibrated("),  # no ReLU
        ("cpu/kernels.cpp", "i < count; ++i) {\n    y[i]", "i < count - count % 4; ++i) {\n    y[i]"),  # GCLU's end
        ("cpu/kernels.cpp", "i < count; ++i) {\n      y[i]", "i < count - count % 4; ++i) {\n      y[i]"),  # RC's end
        ("cpu/kernels.cpp", "i < count; ++i) {\n    first", "i < count - 1; ++i) {\n    first"),  # the mean's end
        ("cpu/kernels.cpp", "y[i] = store", "y[i + 1] = store"),  # beside its place
        ("cpu/kernels.cpp", "t.epsilon)", "1e-5F)"),  # the default in place of what was asked for
        ("cpu/kernels.cpp", "+ load(bias[row])", ""),
        ("cpu/kernels.cpp", "i < kLength; ++i", "i + 1 < kLength; ++i"),  # a short row's last weight
        ("cpu/kernels.cpp", "return dense_short<T, 8>", "return dense_short<T, 4>"),
        ("cpu/kernels.cpp", "load(t.log_var[row])", "load(t.log_var[0])"),
        ("cpu/kernels.cpp", "mu[row] = t.mu[block * kBlock + row]", "mu[row] = t.mu[row]"),  # the first block's means
        ("cpu/kernels.cpp", "t.log_var[block * kBlock + row]", "t.log_var[block * kBlock]"),  # one channel's for all
        ("cpu/kernels.cpp", "i = even; i < count; i += kBlock", "i = even; i < even; i += kBlock"),  # the mean's end
        ("cpu/operators.cpp", "mu, mu + channels, y", "mu + channels, mu, y"),  # the two heads swapped
        ("cpu/operators.cpp", "shortcut + offset", "shortcut"),  # every sample gets the first one's
        ("cpu/operators.cpp", "workspace + begin, end", "workspace, end"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_caught(file: str, right: str, wrong: str, tmp_path: Path) -> None:
    for folder in ("cpu", "include"):
        shutil.copytree(PLUGINS / folder, tmp_path / folder)
    source = tmp_path / file
    text = source.read_text(encoding="utf-8")
    assert right in text
    source.write_text(text.replace(right, wrong), encoding="utf-8")
    mutant = compiled(tmp_path, tmp_path)
    assert not all(passes(check, mutant) for check in CHECKS)
