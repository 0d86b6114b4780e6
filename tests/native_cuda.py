"""The C interface of plugins/include/rc/cuda.h through ctypes, on PyTorch's CUDA tensors."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

from native_operands import Calibration, Tail
from rc_deploy.schema import APPROXIMATIONS, DEFAULT_EPSILON

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("torch.float32", "torch.float16", "torch.bfloat16")  # in rc_type's order

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64


class Kernels:
    """The kernels of a built librc_cuda.so. Work is queued on PyTorch's current stream, into `y`.

    Raises:
        RuntimeError: a status other than RC_OK, with the library's words for it.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.rc_cuda_last_error.restype = ctypes.c_char_p
        self._library.rc_cuda_calibrated_tail_workspace.restype = ctypes.c_size_t

    def gclu(self, x: Tensor, y: Tensor, approximate: str = "none") -> None:
        """Apply GCLU to `x`."""
        form = APPROXIMATIONS.index(approximate)
        arguments = (_POINTER(x.data_ptr()), _POINTER(y.data_ptr()), _SIZE(x.numel()), _dtype(x), form, _stream())
        self._check(self._library.rc_cuda_gclu(*arguments))

    def response_calibration(self, a: Tensor, mu: Tensor, log_var: Tensor, y: Tensor) -> None:
        """Calibrate `a` (N, C, *) by `mu` and `log_var` (N, C)."""
        operands = _calibration(a, mu, log_var, y)
        self._check(self._library.rc_cuda_response_calibration(ctypes.byref(operands), _stream()))

    def calibrated_residual(self, a: Tensor, mu: Tensor, log_var: Tensor, shortcut: Tensor, y: Tensor) -> None:
        """Calibrate `a`, add the shortcut and rectify."""
        operands = _calibration(a, mu, log_var, y)
        pointer = _POINTER(shortcut.data_ptr())
        self._check(self._library.rc_cuda_calibrated_residual(ctypes.byref(operands), pointer, _stream()))

    def workspace(self, a: Tensor) -> Tensor:
        """Return the workspace that calibrated_tail() needs for `a`."""
        size = self._library.rc_cuda_calibrated_tail_workspace(_SIZE(a.shape[0]), _SIZE(a.shape[1]))
        return a.new_empty(max(size, 4) // a.element_size())

    def calibrated_tail(self, a: Tensor, shortcut: Tensor, weights: list[Tensor], y: Tensor, workspace: Tensor) -> None:
        """Compute the whole tail of a residual block; `weights`: W1, B1, W2, B2."""
        pointers = [tensor.data_ptr() for tensor in (a, shortcut, *weights, y, workspace)]
        hidden = weights[0].shape[0]
        operands = Tail(*pointers, *_planes(a), hidden, DEFAULT_EPSILON, _dtype(a))
        self._check(self._library.rc_cuda_calibrated_tail(ctypes.byref(operands), _stream()))

    def set_tail_plan(self, blocks: int, threads: int = 0) -> None:
        """Have tails launched with so many blocks to a sample, -1 for three kernels, 0 by the rules."""
        self._check(self._library.rc_cuda_set_tail_plan(blocks, threads))

    def _check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(f"status {status}: {self._library.rc_cuda_last_error().decode()}")


def _calibration(a: Tensor, mu: Tensor, log_var: Tensor, y: Tensor) -> Calibration:
    pointers = [tensor.data_ptr() for tensor in (a, mu, log_var, y)]
    return Calibration(*pointers, *_planes(a), DEFAULT_EPSILON, _dtype(a))


def _planes(a: Tensor) -> tuple[int, int, int]:
    positions = 1
    for size in a.shape[2:]:
        positions *= size
    return a.shape[0], a.shape[1], positions


def _dtype(tensor: Tensor) -> int:
    return DTYPES.index(str(tensor.dtype))


def _stream() -> ctypes.c_void_p:
    import torch

    return _POINTER(torch.cuda.current_stream().cuda_stream)
