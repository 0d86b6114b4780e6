"""The bandwidth of a machine's memory, measured by copying: what layers that compute little are held against.

As STREAM's Copy does it, both what is read and what is written count (https://www.cs.virginia.edu/stream/ref.html).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np

# Far more than any cache holds.
_BYTES = 2**27
_GPU_BYTES = 2**29
_ROUNDS = 7


def of_cpu(threads: int) -> float:
    """Return bytes per second of so many threads copying at once, each its part of an array."""
    source, target = (np.zeros(_BYTES // 4, np.float32) for _ in range(2))
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(1 + _ROUNDS):
            start = time.perf_counter()
            list(pool.map(lambda part: np.copyto(*part), parts))  # NumPy copies without the interpreter's lock
            seconds.append(time.perf_counter() - start)
    return 2 * _BYTES / median(seconds[1:])


def of_gpu(torch: Any) -> float:
    """Return bytes per second of a copy within the first GPU's memory, by CUDA events. Not yet run on one."""
    source, target = (torch.zeros(_GPU_BYTES // 4, device="cuda") for _ in range(2))
    milliseconds: list[float] = []
    for _ in range(1 + _ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        milliseconds.append(start.elapsed_time(end))
    return 2 * _GPU_BYTES / (median(milliseconds[1:]) / 1e3)
