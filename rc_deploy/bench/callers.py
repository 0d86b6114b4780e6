"""Callers: who runs an artefact, one after the other or several at once, and how long each call takes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Self

from rc_deploy.bench.statistics import Turn
from rc_deploy.runners import DeviceRunner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rc_deploy.runners import DeviceTime, Runner

# Calls of each caller in a turn where several run at once: the first ones start together, as callers never do.
CALLS_AT_ONCE = 4


class Callers:
    """Callers of one runner.

    Args:
        runner: entered; it may be called from several threads at once.
        count: of callers; a single one calls from the thread that it is asked in.
    """

    def __init__(self, runner: Runner, count: int) -> None:
        self._runner = runner
        self._count = count

    def __enter__(self) -> Self:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(self._count)
        self._barrier = Barrier(self._count)
        return self

    def __exit__(self, *exception: object) -> None:
        """End them."""
        self._pool.shutdown()

    def turn(self, images: NDArray[np.float32]) -> Turn:
        """Run the images, normalised (N, C, H, W), once without counting and then for the clock."""
        if self._count == 1:
            self._runner.run(images)
            (latency,) = self._calls(images, 1)
            return Turn((latency[1] - latency[0],), latency[1] - latency[0], self._device_time())
        self._all(images, 1)
        spans = self._all(images, CALLS_AT_ONCE)
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        return Turn(tuple(end - start for start, end in spans), seconds)

    def _all(self, images: NDArray[np.float32], calls: int) -> list[tuple[float, float]]:
        def caller(_: int) -> list[tuple[float, float]]:
            self._barrier.wait()
            return self._calls(images, calls)

        return [span for spans in self._pool.map(caller, range(self._count)) for span in spans]

    def _calls(self, images: NDArray[np.float32], calls: int) -> list[tuple[float, float]]:
        spans = []
        for _ in range(calls):
            start = time.perf_counter()
            self._runner.run(images)
            spans.append((start, time.perf_counter()))
        return spans

    def _device_time(self) -> DeviceTime | None:
        return self._runner.device_time() if isinstance(self._runner, DeviceRunner) else None
