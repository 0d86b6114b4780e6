"""What NVIDIA GPUs this machine has, asked of the driver itself: no Python package is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

# cuDeviceGetAttribute's numbers for the compute capability (cuda.h, CUdevice_attribute).
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name and its compute capability, e.g. "8.9"."""

    name: str
    compute_capability: str


@dataclass(frozen=True)
class Driver:
    """The CUDA driver's version, e.g. "13.0", and its GPUs; `problem` says why there are none."""

    version: str | None
    gpus: tuple[Gpu, ...]
    problem: str = ""


@cache
def driver() -> Driver:
    """Ask the CUDA driver for its version and GPUs; never raises."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(None, (), "no NVIDIA driver is installed (libcuda.so.1 was not found)")
    number = ctypes.c_int()
    status = cuda.cuInit(0)
    if status != 0:
        return Driver(None, (), f"the NVIDIA driver does not start (cuInit returned CUDA error {status})")
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    cuda.cuDeviceGetCount(ctypes.byref(number))
    gpus = tuple(_gpu(cuda, index) for index in range(number.value))
    return Driver(version, gpus, "" if gpus else "the NVIDIA driver finds no GPU")


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}")
