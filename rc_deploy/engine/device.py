"""A GPU through PyCUDA: its primary context, which inference libraries use too, one stream, and buffers on both sides.

CUDA graphs come from the driver itself, which PyCUDA has no words for
(https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__GRAPH.html).
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rc_deploy import gpu
from rc_deploy.errors import UnsupportedError, reason
from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may work meanwhile


@dataclass
class Buffer:
    """One float32 tensor: `host` is pinned memory, `address` that of the same number of bytes on the device."""

    host: NDArray[np.float32]
    device: Any

    @property
    def address(self) -> int:
        """Where it lies on the device."""
        return int(self.device)


class Device:
    """The first GPU, held between enter and exit.

    Raises on enter:
        MissingDependencyError: PyCUDA is not installed.
        UnsupportedError: there is no driver or no GPU, or it cannot be taken.
    """

    def __enter__(self) -> Self:
        """Take the GPU."""
        if problem := gpu.driver().problem:
            raise UnsupportedError(f"Engines run on a GPU, and {problem}.", "See `rc-deploy doctor`.")
        self._cuda = require("pycuda.driver", "Running an engine")
        with _told("The GPU cannot be taken"):
            self._cuda.init()
            self._context = self._cuda.Device(0).retain_primary_context()
            self._context.push()
        self._stream = self._cuda.Stream()
        self._graphs: list[ctypes.c_void_p] = []
        return self

    def __exit__(self, *exception: object) -> None:
        """Give it back."""
        self._stream.synchronize()
        for graph in self._graphs:
            _driver("cuGraphExecDestroy", graph)
        del self._stream
        self._context.pop()
        self._context.detach()

    @property
    def stream(self) -> int:
        """Handle of the stream that everything runs in."""
        return int(self._stream.handle)

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """Return a buffer of this shape. Raises UnsupportedError where memory does not suffice."""
        with _told(f"There is no memory for a tensor {shape}"):
            host = self._cuda.pagelocked_empty(shape, np.float32)
            return Buffer(host, self._cuda.mem_alloc(max(host.nbytes, 1)))

    def upload(self, buffer: Buffer, rows: int) -> None:
        """Copy the first rows to the device, in the stream."""
        self._cuda.memcpy_htod_async(buffer.device, buffer.host[:rows], self._stream)

    def download(self, buffer: Buffer, rows: int) -> None:
        """Copy the first rows from the device, in the stream."""
        self._cuda.memcpy_dtoh_async(buffer.host[:rows], buffer.device, self._stream)

    def wait(self) -> None:
        """Wait for the stream. Raises UnsupportedError where something in it failed."""
        with _told("The GPU failed"):
            self._stream.synchronize()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts into the stream as a CUDA graph; return what launches it."""
        graph, launchable = ctypes.c_void_p(), ctypes.c_void_p()
        stream = ctypes.c_void_p(self.stream)
        _driver("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        try:
            work()
        finally:
            _driver("cuStreamEndCapture", stream, ctypes.byref(graph))
        _driver("cuGraphInstantiateWithFlags", ctypes.byref(launchable), graph, ctypes.c_ulonglong(0))
        _driver("cuGraphDestroy", graph)
        self._graphs.append(launchable)
        return lambda: _driver("cuGraphLaunch", launchable, stream)


def _driver(function: str, *arguments: Any) -> None:
    """Call the driver. Raises UnsupportedError where it fails."""
    status = getattr(ctypes.CDLL("libcuda.so.1"), function)(*arguments)
    if status:
        raise UnsupportedError(f"{function} returned CUDA error {status}.", "Run without a CUDA graph.")


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("pycuda"):
            raise
        hint = "`nvidia-smi` shows the GPU, what uses it and its memory; smaller batches take less."
        raise UnsupportedError(f"{what}: {reason(error)}.", hint) from error
