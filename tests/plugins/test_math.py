"""plugins/include/rc/math.h on the host, compiled for each instruction set, against float64 over the whole range."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from native_build import passes
from native_maths import PLUGINS, TARGETS, Floats, Maths, compiled, supported
from reference import tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_ULP = 4.0  # what rc/math.h states
FORMS = ("none", "sigmoid", "tanh")
# Every rounding of GCLU goes the same way: without the exponential's low part the first is off by 4.08 units.
HARDEST = (0.136960968, 0.333786428, 0.331138551, 1.82458901)

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++: rc/math.h was not compiled")


@pytest.fixture(scope="module", params=TARGETS)
def maths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maths:
    target = request.param
    if not supported(target):
        pytest.skip(f"this processor has no {target}")
    return compiled(PLUGINS / "include", TARGETS[target], tmp_path_factory.mktemp(target))


def samples() -> Floats:
    """Evenly over the range, at random where tails are normal numbers, and down to the smallest magnitudes."""
    rng = np.random.default_rng(0)
    small = np.exp(rng.uniform(-87, 4, 200_000)) * rng.choice((-1, 1), 200_000)
    parts = (np.linspace(-60, 60, 1_000_001), rng.uniform(-15, 15, 1_000_000), rng.uniform(-1e-3, 1e-3, 100_000), small)
    hardest = np.array(HARDEST)
    return np.concatenate((*parts, hardest, -hardest)).astype(np.float32)


def assert_within_ulp(found: Floats, exact: NDArray[np.float64]) -> None:
    """At most LARGEST_ULP units in the last place where the exact result is a normal number; else below that."""
    smallest = np.finfo(np.float32).tiny
    normal = np.abs(exact) >= smallest
    unit = np.spacing(np.abs(exact[normal]).astype(np.float32)).astype(np.float64)
    assert (np.abs(found[normal] - exact[normal]) / unit).max() <= LARGEST_ULP
    assert (np.abs(found[~normal]) <= smallest).all()


def gclu(x: Floats, form: str) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    return np.asarray(np.maximum(wide, 0) + wide * tail(wide, form))


def test_lower_tail(maths: Maths) -> None:
    x = samples()
    assert_within_ulp(maths.map("lower_tail", x), tail(x.astype(np.float64)))


@pytest.mark.parametrize("form", FORMS)
def test_gclu(maths: Maths, form: str) -> None:
    x = samples()
    found, exact = maths.map(f"gclu_{form}", x), gclu(x, form)
    assert_within_ulp(found, exact)
    within = np.abs(x) <= 14
    # From 8 on, half a unit in the last place is 4.8e-7; the exact form's tail is far below it there.
    assert np.abs(found[within] - exact[within]).max() <= (3e-7 if form == "none" else 5e-7)


@pytest.mark.parametrize(("mu", "std"), [(0.0, 1.0), (0.7, 0.3), (-2.0, 25.0), (1.0, 0.0), (3.0, 1e-4)])
def test_calibrated(maths: Maths, mu: float, std: float) -> None:
    a = samples()
    slope = np.float32(1) / (np.float32(std) + np.float32(1e-5))
    z = ((a - np.float32(mu)) * slope).astype(np.float64)
    exact = a.astype(np.float64) * (1 + tail(z))
    assert_within_ulp(maths.calibrated(a, mu, std), exact)


@pytest.mark.parametrize("form", FORMS)
def test_gclu_limits(maths: Maths, form: str) -> None:
    found = maths.map(f"gclu_{form}", np.array([np.inf, -np.inf, np.nan, 0, 3e38, -3e38], np.float32))
    np.testing.assert_array_equal(found, np.array([np.inf, 0, np.nan, 0, 3e38, 0], np.float32))


@pytest.mark.parametrize(
    ("a", "mu", "std", "expected"),
    [
        (np.inf, 0, 1, np.inf), (-np.inf, 0, 1, -np.inf), (2, 2, 0, 3), (2, 1, 0, 2), (2, 1, np.inf, 3),
        (2, 1e30, 1, 2), (2, np.inf, 1, 2), (np.nan, 0, 1, np.nan), (2, np.nan, 1, np.nan), (2, 0, np.nan, np.nan),
        (np.inf, np.nan, 1, np.nan),
    ],
)  # fmt: skip
def test_calibrated_limits(maths: Maths, a: float, mu: float, std: float, expected: float) -> None:
    found = maths.calibrated(np.array([a], np.float32), mu, std)
    # 0.5 is met to one unit in its last place.
    np.testing.assert_allclose(found, [expected], rtol=2.0**-23)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(n, kLn2Low, y.low)", "(n, kLn2Low, 0.0F)"),  # the exponent's low part dropped
        ("d * e.mantissa.low", "0.0F"),  # the exponential rounded before its product
        ("1.60241318F", "1.602414F"),  # the last digits of a coefficient
        ("x > bound ? bound : x", "x < bound ? x : bound"),  # NaN becomes the bound
        ("12582912.0F + 127.0F", "12582912.0F + 128.0F"),  # off by a factor of two
        ("kNormalEnd = 13.28F", "kNormalEnd = 13.2F"),  # the tail never ends
    ],
)
def test_wrong_maths_is_caught(right: str, wrong: str, tmp_path: Path) -> None:
    header = (PLUGINS / "include" / "rc" / "math.h").read_text()
    assert right in header
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc" / "math.h").write_text(header.replace(right, wrong))
    mutant = compiled(tmp_path, ("-w",), tmp_path)
    nan_mean = (2, np.nan, 1, np.nan)
    tests = (
        test_lower_tail,
        lambda maths: test_gclu(maths, "none"),
        lambda maths: test_calibrated_limits(maths, *nan_mean),
        lambda maths: test_gclu_limits(maths, "none"),
    )
    assert not all(passes(test, mutant) for test in tests)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc: the header was not compiled for CUDA")
@pytest.mark.parametrize("architecture", [80, 86, 89, 90, 100, 120])
def test_compiles_for_cuda(architecture: int, tmp_path: Path) -> None:
    source = tmp_path / "kernel.cu"
    source.write_text(
        '#include "rc/math.h"\n'
        "__global__ void kernel(const float* x, float* y) {\n"
        "  y[0] = rc::gclu(x[0]) + rc::gclu_sigmoid(x[1]) + rc::gclu_tanh(x[2]) + rc::calibrated(x[3], x[4], x[5]);\n"
        "}\n"
    )
    target = f"-arch=sm_{architecture}"
    command = ["nvcc", "-std=c++17", target, "-Werror=all-warnings", f"-I{PLUGINS / 'include'}", "-cubin", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "kernel.cubin")], check=True, capture_output=True, text=True)
