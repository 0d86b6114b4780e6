"""Deterministic mode: the same bits in every run on a GPU too."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from rc_deploy.errors import UnsupportedError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

COST = (
    "Deterministic mode: on a GPU some operations take slower kernels, and cuDNN does not look for the fastest ones. "
    "On a CPU the result is the same without it."
)
# cuBLAS repeats its sums only with a workspace of a fixed size: 8 buffers of 4,096 KiB.
WORKSPACE_VARIABLE, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let PyTorch take deterministic algorithms only, where that is wanted, else cuDNN's fastest.

    Entered before CUDA is first used.

    Raises:
        UnsupportedError: an operation has no deterministic form on this device.
    """
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    if wanted:
        os.environ.setdefault(WORKSPACE_VARIABLE, WORKSPACE)
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic = True
    # It times its algorithms once for each shape, of which there are three: two sizes of batches, and one to judge on.
    cudnn.benchmark = not wanted
    try:
        yield
    except RuntimeError as error:
        if "determinis" not in str(error):
            raise
        raise UnsupportedError(
            f"This network cannot be trained in deterministic mode here: {reason(error)}",
            "Train without --deterministic: runs then differ by rounding on a GPU.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
