"""Hold plugins/include/rc/math.h against float64 at every float that matters: python benchmarks/native_ulp.py.

For each instruction set and function: the largest error in units in the last place where the exact result is a normal
number, and the argument it is found at; of functions stated with an absolute error, that. Takes about five minutes and
wants SciPy and g++; tests/plugins/test_math.py holds samples of the same against the same bounds.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from native_maths import TARGETS, Maths, compiled, supported  # noqa: E402
from reference import gclu, tail  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Doubles = NDArray[np.float64]
CHUNK = 1 << 22
SMALLEST = 2.0**-9  # below it every function here is linear to a unit in the last place


@dataclass(frozen=True)
class Function:
    """What is tried: a function of math_abi.cpp and its exact form, from `SMALLEST` to `end` and, if so, minus that."""

    name: str
    exact: Callable[[Doubles], Doubles]
    end: float
    negative: bool = True
    absolute: bool = False


FUNCTIONS = (
    Function("lower_tail", tail, 13.3, negative=False),
    Function("gclu_none", gclu, 13.3),
    Function("gclu_sigmoid", lambda x: gclu(x, "sigmoid"), 61.6),
    Function("gclu_tanh", lambda x: gclu(x, "tanh"), 10.8),
    Function("calibration_weight", tail, 14.0, negative=False, absolute=True),
    Function("standard_deviation", lambda x: np.exp(0.5 * x), 174.0),
)


@dataclass(frozen=True)
class Worst:
    """The largest error, and the argument it is found at."""

    error: float = 0.0
    at: float = 0.0


def floats(end: float) -> Iterator[NDArray[np.float32]]:
    """Every float from `SMALLEST` to `end`, in pieces."""
    first, last = (int(np.float32(value).view(np.uint32)) for value in (SMALLEST, end))
    for start in range(first, last, CHUNK):
        yield np.arange(start, min(start + CHUNK, last), dtype=np.uint32).view(np.float32)


def worst_of(function: Function, maths: Maths, x: NDArray[np.float32]) -> Worst:
    """Return the largest error at `x`."""
    found = maths.map(function.name, x)
    exact = function.exact(x.astype(np.float64))
    error = np.abs(found - exact)
    if not function.absolute:
        normal = np.abs(exact) >= np.finfo(np.float32).tiny
        error = np.where(normal, error / np.spacing(np.abs(exact).astype(np.float32)), 0.0)
    place = int(error.argmax())
    return Worst(float(error[place]), float(x[place]))


def main() -> None:
    """Print a row for each function and instruction set."""
    print(f"{'function':20} {'instructions':12} {'floats':>12} {'largest error':>16}   at")
    with tempfile.TemporaryDirectory() as folder:
        for target, flags in TARGETS.items():
            if not supported(target):
                print(f"this processor has no {target}")
                continue
            maths = compiled(ROOT / "plugins" / "include", flags, Path(folder))
            for function in FUNCTIONS:
                worst, count = Worst(), 0
                for x in floats(function.end):
                    for signed in (x, -x) if function.negative else (x,):
                        worst = max(worst, worst_of(function, maths, signed), key=lambda one: one.error)
                        count += x.size
                error = f"{worst.error:.2e}" if function.absolute else f"{worst.error:.3f} ULP"
                print(f"{function.name:20} {target:12} {count:12,} {error:>16}   {worst.at:.9g}", flush=True)


if __name__ == "__main__":
    main()
