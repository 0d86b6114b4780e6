"""plugins/include/rc/math.h over arrays: compiled for each instruction set and called through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLUGINS = Path(__file__).parents[1] / "plugins"
# -O3 vectorises the loops, which is how kernels will use the functions; warnings are errors.
FLAGS = ("-std=c++17", "-O3", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fno-math-errno", "-fno-trapping-math")
TARGETS = {"plain": (), "avx2": ("-mavx2", "-mfma"), "avx512f": ("-mavx512f", "-mavx512dq", "-mfma")}

Floats = NDArray[np.float32]
_ARRAY = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")


class Maths:
    """The functions of the header over arrays."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def map(self, name: str, x: Floats) -> Floats:
        y = np.empty_like(x)
        function = getattr(self._library, f"rc_{name}")
        function.argtypes = (_ARRAY, _ARRAY, ctypes.c_size_t)
        function(x, y, x.size)
        return y

    def calibrated(self, a: Floats, mu: float, std: float, epsilon: float = 1e-5) -> Floats:
        y = np.empty_like(a)
        function = self._library.rc_calibrated
        function.argtypes = (_ARRAY, *[ctypes.c_float] * 3, _ARRAY, ctypes.c_size_t)
        function(a, mu, std, epsilon, y, a.size)
        return y


def compiled(include: Path, flags: tuple[str, ...], folder: Path) -> Maths:
    """Return the functions of `include`/rc/math.h, compiled with `flags` into `folder`."""
    library = folder / f"math{'-'.join(('', *flags))}.so"
    source = PLUGINS / "tests" / "math_abi.cpp"
    command = ["g++", *FLAGS, *flags, f"-I{include}", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return Maths(library)


def supported(target: str) -> bool:
    """Whether this processor runs code for a key of `TARGETS`."""
    return target == "plain" or target in Path("/proc/cpuinfo").read_text().split()
